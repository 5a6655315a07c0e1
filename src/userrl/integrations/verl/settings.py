"""What a verl configuration says to this plug-in: the tables `userrl` and `algorithm.userrl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

from userrl.config import Above0, Count, Fraction, resolve
from userrl.core import DEFAULT_MAX_TURNS
from userrl.errors import ConfigError
from userrl.rewards.advantage import CREDIT, SCORE, Compat, CreditNorm, CreditSign, check_settings
from userrl.rewards.base import EM_K, GAMMA, read_by
from userrl.rewards.schemes import CREDITS, ESTIMATORS, SCORES

T = TypeVar("T")

LOOP = "userrl"
"""Name of the agent loop: the value of the data's column `agent_name`."""
ESTIMATOR = "userrl_turn_grpo"
"""Name of the advantage estimator: the value of `algorithm.adv_estimator`."""


@dataclass(frozen=True)
class Play:
    """How episodes are played: the table `userrl`."""

    user: str = "scripted"
    """scripted[:TRAIT] or MODEL@URL[*WEIGHT],URL...: several endpoints share the work."""
    judge: str = "scripted"
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Role (user or judge) -> settings of the endpoint behind it. Limits hold for each agent-loop worker."""
    max_turns: Count = DEFAULT_MAX_TURNS
    max_new: Count | None = None
    """Tokens of one reply at most; None: what is left of `data.max_response_length`."""
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the gyms, as jobs have them."""
    turn_timeout_s: Above0 | None = None
    episode_timeout_s: Above0 | None = None
    seed: int = 0
    episodes: str | None = None
    """Folder to which each agent-loop worker writes all of its episodes, failed ones included, to a file of its own."""


@dataclass(frozen=True)
class Scheme:
    """How rewards become advantages: the table `algorithm.userrl`. verl's own switch `norm_adv_by_std_in_grpo` sets `scale`.

    A score that reads an episode's success (`composite`) and an estimator that reads its states (`gigpo`) are refused: verl
    hands an estimator nothing but rewards, mask and group.
    """

    credit: Annotated[str, AfterValidator(CREDITS.named)] = CREDIT
    score: Annotated[str, AfterValidator(SCORES.named)] = SCORE
    estimator: Annotated[str, AfterValidator(ESTIMATORS.named)] = "grpo"
    gamma: Fraction = GAMMA
    credit_sign: CreditSign = "plain"
    credit_norm: CreditNorm = "credited"
    em_k: Above0 = EM_K
    compat: Compat | None = None
    """"userrl" computes as the original does; see docs/credit.md for this and the others."""


def scheme_in(config: Any) -> Scheme:
    """The table `algorithm.userrl` of a verl configuration's part `algorithm`. Raises UnknownName or ConfigError."""
    scheme = table(Scheme, config, "algorithm.userrl")
    check_settings(
        scheme.credit,
        scheme.score,
        scheme.estimator,
        gamma=scheme.gamma,
        credit_sign=scheme.credit_sign,
        credit_norm=scheme.credit_norm,
        em_k=scheme.em_k,
        compat=scheme.compat,
    )
    for name, reads, what in (
        (scheme.score, read_by(SCORES.find(scheme.score)).success, "score"),
        (scheme.estimator, read_by(ESTIMATORS.find(scheme.estimator)).states, "estimator"),
    ):
        if reads:
            raise ConfigError(
                f"`algorithm.userrl.{what}` is {name!r}, which reads what verl does not hand on (whether an episode reached its "
                f"goal, or the gym's states); choose another {what}."
            )
    return scheme


def table(kind: type[T], config: Any, name: str) -> T:
    """The settings in a verl configuration's table `userrl`; defaults where there is none. Raises ConfigError."""
    values = plain(config.get("userrl")) if config is not None else None
    if not isinstance(values, dict | None):
        raise ConfigError(f"The setting `{name}` is {values!r:.60}; expected a table of settings.")
    return resolve(kind, None, {key: value for key, value in (values or {}).items() if value is not None})


def plain(node: Any) -> Any:
    """A part of a Hydra configuration as dicts, lists and values."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
