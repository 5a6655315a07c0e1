"""What verl loads in every process, by the entry point "verl.plugins": registers the agent loop and the estimator.

verl passes over a plug-in that fails to load; `userrl verl check` does not.
"""

from __future__ import annotations

from userrl.errors import needs
from userrl.integrations.verl.advantage import turn_grpo
from userrl.integrations.verl.agent_loop import UserRLAgentLoop
from userrl.integrations.verl.settings import ESTIMATOR, LOOP

with needs("verl", "The verl plug-in"):
    from verl.experimental.agent_loop.agent_loop import register
    from verl.trainer.ppo.core_algos import register_adv_est

register(LOOP)(UserRLAgentLoop)
register_adv_est(ESTIMATOR)(turn_grpo)
