"""No test here may pick up a key of whoever runs it."""

import pytest


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERRL_API_KEY", "USERRL_AGENT_API_KEY", "USERRL_USER_API_KEY", "USERRL_JUDGE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
