"""A plug-in for verl (https://github.com/verl-project/verl), version 0.9, whose own `main_ppo` runs unchanged.

verl loads `plugin` by its entry point in every process; that registers the agent loop "userrl", which plays the gyms, and
the advantage estimator "userrl_turn_grpo", which is `userrl.rewards`. See docs/scale.md.
"""
