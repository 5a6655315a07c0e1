"""A small folder in the official layout, with content of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def function(number: int, rule: str = "a + b * c - d") -> dict[str, Any]:
    return {"id": f"func-{number}", "rule": rule, "test_case": [1, 2, number, 4], "expected_result": float(2 * number - 3)}


def intention(key: str) -> dict[str, Any]:
    details = [
        ("Number of guests", "3", "How many guests will come?", ["5", "10", "20"]),
        ("Food wishes", "2", "Which dishes should be served?", ["cold dishes", "hot dishes"]),
        ("Music", "1", "Should there be a band?", ["a live band", "a record player"]),
    ]
    missing = [dict(zip(("description", "importance", "inquiry", "options"), row, strict=True)) for row in details]
    return {"id": key, "category": "Events", "task": f"Plan the party of {key}.", "missing_details": missing}


def story(title: str) -> dict[str, Any]:
    lines = [{"statement": "The man is a diver.", "score": 0.7}, {"statement": "He went home.", "score": 0.3}]
    told = {"new_surface": "A man walks home wet on a dry day.", "new_bottom": "The man is a diver, and then he went home."}
    return {"judgment": "Yes", "new_title": title, **told, "evaluation": lines}


def entity(number: int, title: str) -> dict[str, Any]:
    texts = {
        "description": "I am thinking of an animal.",
        "goal": "Guess the animal.",
        "target_entity": f"{title} - a small animal",
    }
    return {"id": f"entity_{number:03}", "title": title, **texts, "category": "animal"}


def statement(key: str, claim: str) -> dict[str, Any]:
    return {"id": key, "claim": claim, "argument": f"{claim} Experience shows it.", "split": "train"}


def tau(key: str) -> dict[str, Any]:
    actions = [{"name": "get_user_details", "kwargs": {"user_id": "ada_voss_1111"}}]
    told = {"user_id": "ada_voss_1111", "instruction": "You are Ada Voss.", "actions": actions, "outputs": []}
    return {"id": key, "obs": "Hello.", "info": {"task": told, "source": "user"}}


def files() -> dict[str, Any]:
    """Path -> value of every file."""
    return {
        "data/functions.json": [function(n) for n in range(1, 41)],
        "data/intentions_train.json": [intention(key) for key in ("ann", "bob", "cid")],
        "data/intentions_test.json": [intention("dora")],
        "data/turtle_stories.json": {"3": story("The Wet Man"), "8": story("The Wet Man 2")},
        "data/telepathy_entities.json": [entity(1, "Fixture Newt"), entity(2, "Fixture Vole")],
        "data/persuasion_statements.json": [statement("P1", "Dogs should wear hats."), statement("P2", "Cats should vote.")],
        "data/bamboogle_questions.json": [{"id": "Bamboogle-1", "question": "Who wrote our fixture?", "answer": "nobody"}],
        "data/tau_train.json": [tau("retail-train-000")],
        "data/tau_test.json": [tau("retail-000")],
        "splits.json": splits(),
    }


def splits() -> dict[str, Any]:
    own = {
        "function_multiturn/train": [f"func-{n}" for n in range(1, 31)],
        "function_multiturn/test": [f"func-{n}" for n in range(40, 30, -1)],
        "intention_multiturn/train": ["bob", "ann"],
        "intention_multiturn/test": ["dora"],
        "turtle_multiturn/train": ["The Wet Man 2"],
        "turtle_multiturn/test": ["The Wet Man"],
        "telepathy_multiturn/train": ["Fixture Vole"],
        "telepathy_multiturn/test": ["Fixture Newt"],
        "persuasion_multiturn/train": ["P2"],
        "persuasion_multiturn/test": ["P1"],
        "bamboogle_multiturn/test": ["Bamboogle-1"],
        "tau_multiturn/train": ["retail-train-000"],
        "tau_multiturn/test": ["retail-000"],
        "travel_multiturn_onechoice/test": ["flight:2-1|hotel:2-1", "hotel:2-9|restaurant:2-9"],
        "travel22_multiturn_onechoice/test": ["flight:2-1|hotel:2-1"],
    }
    train = [["FunctionGym", "func-7"], ["TauGym", "retail-train-000"], ["FunctionGym", "func-2"], ["TurtleGym", "The Wet Man 2"]]
    test = [["IntentionGym", "dora"], ["FunctionGym", "func-33"], ["TravelGym", "flight:2-1|hotel:2-1"]]
    rows = {name: {"keys": keys} for name, keys in own.items()}
    merged = {"alltrain_multiturn/train": {"rows_gym_key": train}, "alltest_multiturn/test": {"rows_gym_key": test}}
    return {"source_commit": COMMIT, "files": {**rows, **merged}}


def write(root: Path, contents: dict[str, Any] | None = None) -> Path:
    """The folder, from `files()` by default."""
    for name, value in (files() if contents is None else contents).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return root
