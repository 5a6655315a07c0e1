"""The two context managers of the error tree: who failed, and what to install."""

import importlib
from pathlib import Path

import pytest

from userrl.errors import DeadlinePassed, EndpointRefused, MissingExtra, ReplyError, SeatError, boundary, needs


@pytest.mark.parametrize("kind", [SeatError, ReplyError, EndpointRefused])
def test_boundary_puts_the_role_in_front_of_a_seats_failure_and_keeps_its_kind(kind: type[SeatError]) -> None:
    error = kind("no answer")
    with pytest.raises(SeatError) as caught, boundary("judge"):
        raise error
    assert caught.value is error
    assert str(error) == "judge: no answer"


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), KeyboardInterrupt()])
def test_boundary_lets_every_other_exception_pass_unchanged(error: BaseException) -> None:
    args = error.args
    with pytest.raises(type(error)) as caught, boundary("judge"):
        raise error
    assert caught.value is error
    assert caught.value.args == args


def test_boundary_names_a_role_once() -> None:
    with pytest.raises(SeatError, match=r"^judge: no answer$"), boundary("judge"), boundary("judge"):
        raise SeatError("no answer")


def test_boundary_blames_nobody_for_a_deadline() -> None:
    with pytest.raises(DeadlinePassed, match=r"^too late$"), boundary("judge"):
        raise DeadlinePassed("too late")


def test_boundary_without_a_failure_does_nothing() -> None:
    with boundary("user"):
        value = 1
    assert value == 1


def test_needs_turns_a_missing_package_into_its_pip_line() -> None:
    with pytest.raises(MissingExtra) as caught, needs("local", "A local policy"):
        importlib.import_module("no_such_package_here.sub")
    text = str(caught.value)
    assert text.startswith("A local policy needs the package 'no_such_package_here'")
    assert "pip install 'userrl[local]'" in text
    assert "in a checkout: pip install -c constraints.txt -e '.[local]'" in text
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_needs_does_not_blame_a_package_for_a_module_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, needs("local", "A local policy"):
        importlib.import_module("userrl.no_such_room")
    assert not isinstance(caught.value, MissingExtra)


def test_needs_lets_a_broken_package_speak_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package_here.py").write_text("from math import no_such_function\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="no_such_function") as caught, needs("local", "A local policy"):
        importlib.import_module("broken_package_here")
    assert not isinstance(caught.value, MissingExtra)
