"""Results as JSON: a schema with a version that holds everything, and nothing that JSON cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from userrl.core import Episode
from userrl.evaluate.compare import Divergence
from userrl.evaluate.results import SCHEMA, document, eval_document, measure, plain, text
from userrl.evaluate.run import EvalJob, plan
from userrl.gyms.base import find
from userrl.llm.ledger import Ledger, Spent
from userrl.rollout import run

COMMON = {"schema", "kind", "userrl"}
EVAL = {"job", "cautions", "gyms", "averages", "held_out", "parts", "hacks", "cost"}
GYM = {
    *("gym", "tasks", "episodes", "errors", "invalid_rate", "score", "share", "solved", "effective_turns", "time_weighted"),
    *("mix", "parts", "idle", "effort", "passes"),
}


def results(**settings: Any) -> dict[str, Any]:
    job = EvalJob("expert", gyms=("intention", "function", "search"), tasks=2, held_out=("search",), **settings)
    episodes = [
        e for gym in job.gyms for e in run((e for e in plan(job) if e.task.gym == gym), find(gym).expert(0.7), find(gym).cast())
    ]
    ledger = Ledger()
    ledger.add("user", "intention", "m", Spent(3, 0, 10, 5, 0.1, 0))
    found: dict[str, Any] = json.loads(text(eval_document(measure(job, episodes, ledger))))
    return found


def test_an_evaluations_document_has_the_fields_of_its_schema() -> None:
    found = results()
    assert (found["schema"], found["kind"]) == (SCHEMA, "eval") == (1, "eval")
    assert set(found) == COMMON | EVAL
    assert [set(gym) for gym in found["gyms"]] == [GYM] * 3
    assert found["gyms"][0]["score"].keys() == {"mean", "low", "high", "n"}
    assert [a["gym"] for a in found["averages"]] == ["micro", "macro"]
    assert found["parts"].keys() == {"held-in", "held-out"} and found["held_out"] == ["search"]
    assert found["cost"] == [{"role": "user", "gym": "intention", "model": "m", "calls": 3, "failed": 0, "read": 10, "written": 5,
                              "usd": 0.1, "unpriced": 0, "lost": 0, "price": None}]  # fmt: skip
    assert found["hacks"][0]["rates"].keys() == {"long", "attack"}
    assert found["job"]["agent"] == "expert"


def test_the_papers_rows_are_in_the_document_of_its_preset() -> None:
    found = results(preset="paper")["paper"]
    assert found["gyms"][0] == "travel" and len(found["table"]) == 12
    assert found["ours"]["travel"] is None and found["ours"]["search"] is not None
    assert any("Other tasks" in line for line in found["differences"])


def test_leaks_are_looked_for_where_the_user_is_no_script_or_it_is_asked_for() -> None:
    [episode] = plan(EvalJob("x", tasks=1))
    ended = [Episode(episode.task, (), "turn_limit")]

    def made(user: str, **options: Any) -> bool:
        return "leak" in measure(EvalJob("x", user=user), ended, **options).hacks[0].rates

    assert made("m@http://a/v1") and made("human") and made("scripted", leaks=True)
    assert not made("scripted") and not made("m@http://a/v1", leaks=False)


def test_numbers_that_are_not_known_are_null_and_keys_that_are_records_become_items() -> None:
    assert plain({"a": float("nan"), "b": (1, float("inf"))}) == {"a": None, "b": [1, None]}
    assert plain({Divergence(2, "action"): 5}) == [{"turn": 2, "cause": "action", "count": 5}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        text({"x": float("nan")})
    assert json.loads(text({"x": "a\ud800b"}).encode()) == {"x": "a?b"}
    assert document("front", {"points": []}).keys() == COMMON | {"points"}
