"""Endpoints: how they are named, checked and recorded, and which key they take."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from userrl.errors import ConfigError, UnknownName
from userrl.llm.endpoint import OPENAI_URL, Endpoint, lasting, parse_endpoint, parse_endpoints


@pytest.mark.parametrize(
    ("spec", "model", "url"),
    [
        ("gpt-4o-mini", "gpt-4o-mini", OPENAI_URL),
        ("gpt-4o-mini@", "gpt-4o-mini", OPENAI_URL),
        ("qwen3@http://localhost:8000/v1", "qwen3", "http://localhost:8000/v1"),
        ("qwen3@http://localhost:8000/v1/", "qwen3", "http://localhost:8000/v1"),
        ("qwen3@https://host.example/v1/chat/completions", "qwen3", "https://host.example/v1"),
        ("llama3:8b@http://[::1]:11434/v1", "llama3:8b", "http://[::1]:11434/v1"),
        ("@vendor/model@https://host.example/v1", "@vendor/model", "https://host.example/v1"),
        ("model@2024-06@https://host.example/v1", "model@2024-06", "https://host.example/v1"),
    ],
)
def test_a_spec_names_a_model_and_where_it_answers(spec: str, model: str, url: str) -> None:
    endpoint = parse_endpoint(spec)
    assert (endpoint.model, endpoint.url) == (model, url)
    assert endpoint.route == url + "/chat/completions"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "needs the name of a model"),
        ("@http://localhost:8000/v1", "needs the name of a model"),
        ("m@localhost:8000/v1", "must begin with http://"),
        ("m@http://", "a host"),
        ("m@http://host:99999/v1", "cannot be read"),
        ("m@http://ho st/v1", "a space"),
        ("m@http://a..b/v1", "cannot be read"),
        (f"m@http://{'a' * 64}.example/v1", "cannot be read"),
        ("m@http://host/v1?version=1", "?query"),
    ],
)
def test_a_spec_that_does_not_fit_says_why(spec: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(spec)
    assert said in str(caught.value)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    for spec in ("m@http://me:s3cret@host/v1", "m@me:s3cret@host/v1", "m@http://me:s3/cret@host/v1"):
        with pytest.raises(ConfigError) as caught:
            parse_endpoint(spec)
        assert "s3" not in str(caught.value)


@pytest.mark.parametrize("end", ["?api_key=sk-s3cret", "#sk-s3cret", "?key=s3cret@home", "?key=sk*s3cret", "?key=s3cret*2"])
def test_a_key_in_a_url_is_refused_and_not_repeated(end: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoints(f"m@http://host/v1{end}")
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "longest"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"extra": {"max_completion_tokens": 7}}, 7),
        ({"max_tokens": 5, "extra": {"max_tokens": 9}}, 9),
    ],
)
def test_how_long_a_reply_may_be_is_read_wherever_it_is_set(settings: dict[str, Any], longest: int | None) -> None:
    assert Endpoint("m", **settings).longest_reply == longest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("timeout_s", "60"),
        ("timeout_s", None),
        ("max_retries", -1),
        ("backoff_s", -0.1),
        ("max_wait_s", float("inf")),
        ("temperature", -1),
        ("max_tokens", 0),
        ("structured", "yaml"),
        ("max_retries", 1.5),
        ("max_tokens", 64.0),
        ("tools", "no"),
        ("extra", {"stream": True}),
        ("extra", {"when": object()}),
        ("extra", "reasoning_effort"),
        ("url", "ftp://host/v1"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field if field != "url" else "endpoint URL"):
        Endpoint("m", **{field: value})


def test_each_role_takes_its_own_key_before_the_common_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(role: Any) -> tuple[str | None, str]:
        secret, source = parse_endpoint("m", role).find_key()
        return secret.get_secret_value() if secret else None, source

    value, source = key("judge")
    assert value is None
    assert "USERRL_JUDGE_API_KEY or USERRL_API_KEY or OPENAI_API_KEY" in source
    monkeypatch.setenv("OPENAI_API_KEY", "k-openai")
    assert key("judge")[0] == key(None)[0] == "k-openai"
    monkeypatch.setenv("USERRL_API_KEY", " k-common\n")
    assert key("judge")[0] == "k-common"
    monkeypatch.setenv("USERRL_JUDGE_API_KEY", "k-judge")
    value, source = key("judge")
    assert value == "k-judge"
    assert "USERRL_JUDGE_API_KEY" in source
    assert key("user")[0] == key(None)[0] == "k-common"


OTHER_URL = "http://gateway.example/v1"


def test_the_key_of_openai_is_sent_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k-openai")
    assert parse_endpoint("m", "agent").find_key()[0] == SecretStr("k-openai")
    for endpoint in (
        parse_endpoint(f"m@{OTHER_URL}", "agent"),
        Endpoint("m", OTHER_URL),
        Endpoint("m", "http://api.openai.com/v1"),
    ):
        key, source = endpoint.find_key()
        assert key is None
        assert "(OPENAI_API_KEY is sent to https://api.openai.com/v1 alone.)" in source
    monkeypatch.setenv("USERRL_API_KEY", "k-common")
    assert parse_endpoint(f"m@{OTHER_URL}", "agent").find_key()[0] == SecretStr("k-common")


def test_the_key_of_openai_cannot_be_named_for_another_url() -> None:
    with pytest.raises(ConfigError, match=r"is sent to https://api.openai.com/v1 alone, not to http://gateway.example/v1"):
        Endpoint("m", OTHER_URL, key_env="OPENAI_API_KEY")
    assert Endpoint("m", key_env="OPENAI_API_KEY").key_names == ("OPENAI_API_KEY",)


def test_an_unknown_setting_of_an_endpoint_names_its_near_misses() -> None:
    with pytest.raises(UnknownName, match=r"No setting of the agent's endpoint named 'tols'. Did you mean 'tools'"):
        parse_endpoint("m", "agent", tols=False)


def test_a_resumed_run_may_be_more_patient_but_not_ask_otherwise() -> None:
    patience = {"timeout_s": 5, "max_retries": 0, "backoff_s": 0.1, "max_wait_s": 1}
    assert lasting({"agent": {**patience, "tools": False}, "user": patience}) == {"agent": {"tools": False}}


def test_a_key_of_its_own_or_another_variable_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "k-other")
    monkeypatch.setenv("OPENAI_API_KEY", "k-openai")
    other, _ = Endpoint("m", key_env="OTHER_KEY").find_key()
    own, source = Endpoint("m", key=SecretStr("k-own")).find_key()
    assert other == SecretStr("k-other")
    assert own == SecretStr("k-own")
    assert "Endpoint.key" in source


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERRL_API_KEY", key)
    with pytest.raises(ConfigError, match="USERRL_API_KEY") as caught:
        Endpoint("m").find_key()
    assert key not in str(caught.value)


def test_neither_repr_nor_text_nor_record_shows_the_key() -> None:
    endpoint = Endpoint("m", key=SecretStr("k-secret"), extra={"top_p": 0.9})
    record = endpoint.record()
    assert "k-secret" not in repr(endpoint) + str(endpoint) + json.dumps(record)
    assert record["extra"] == {"top_p": 0.9}
    assert Endpoint(**{**record, "key_env": tuple(record["key_env"])}).record() == record
