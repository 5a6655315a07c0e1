"""Configurations for Hydra: `userrl_grpo` and recipes on top of it."""
