"""The local trainer: supervised cold start, then multi-turn GRPO, in a few readable files."""
