"""Requests and answers as pure functions: what needs no server to be told."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from userrl.llm.endpoint import Endpoint
from userrl.llm.wire import clean, encode, wait_asked


def test_openai_gets_the_name_of_the_token_limit_that_its_newer_models_take() -> None:
    openai, local = Endpoint("m", max_tokens=5), Endpoint("m", "http://localhost:8000/v1", max_tokens=5)
    assert json.loads(encode(openai, []))["max_completion_tokens"] == 5
    assert json.loads(encode(local, []))["max_tokens"] == 5


def test_extra_fields_win_over_the_clients_own() -> None:
    endpoint = Endpoint("m", temperature=1.0, extra={"temperature": 0.2})
    assert json.loads(encode(endpoint, []))["temperature"] == 0.2


def test_a_wait_is_read_in_seconds_or_as_a_date() -> None:
    assert wait_asked({"Retry-After": "2.5"}) == 2.5
    assert wait_asked({"Retry-After": "-3"}) == 0.0
    later = wait_asked({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    assert later is not None
    assert 3500 < later <= 3600
    assert wait_asked({"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=1))}) == 0.0


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf"])
def test_a_wait_that_cannot_be_read_is_none(value: str) -> None:
    assert wait_asked({"Retry-After": value}) is None
    assert wait_asked({}) is None


def test_clean_text_keeps_newlines_tabs_and_every_real_letter() -> None:
    assert clean("a\r\nb\rc\n\td é \u05d0 \U0001f468\u200d\U0001f469") == "a\nb\nc\n\td é \u05d0 \U0001f468\u200d\U0001f469"
    assert clean("\x00\x1b\x7f\x85\udc80") == "\ufffd" * 5
