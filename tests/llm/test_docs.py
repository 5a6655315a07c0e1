"""The guide to models says what the code does; its Python is run by tests/test_docs.py."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from userrl.llm.endpoint import KEY_NAMES, OPENAI_URL, Endpoint, parse_endpoint

GUIDE = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")


def test_every_endpoint_of_the_guide_can_be_read() -> None:
    specs = re.findall(r"\| `(\S+@\S*)`", GUIDE)
    assert len(specs) == 4
    assert [parse_endpoint(spec).url == OPENAI_URL for spec in specs] == [False, False, False, True]


@pytest.mark.parametrize("name", [f.name for f in fields(Endpoint) if f.name not in ("model", "url", "key")])
def test_the_guide_names_every_setting_of_an_endpoint(name: str) -> None:
    assert f"`{name}`" in GUIDE or f"{name}=" in GUIDE


def test_the_guide_names_the_keys_in_the_order_in_which_they_are_looked_for() -> None:
    for role in ("agent", "user", "judge"):
        assert parse_endpoint("m", role).key_names == (f"USERRL_{role.upper()}_API_KEY", *KEY_NAMES)
    places = [GUIDE.index(f"`{name}`") for name in ("USERRL_AGENT_API_KEY", *KEY_NAMES)]
    assert places == sorted(places)
