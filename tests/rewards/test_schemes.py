"""The tables of schemes: ours, those that a program adds, and those of installed packages."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from userrl.errors import ConfigError, UnknownName
from userrl.rewards import CREDITS, ESTIMATORS, SCORES, advantages
from userrl.rewards.base import Reads, read_by, reads
from userrl.rewards.schemes import Schemes, installed


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Installs a package with these entry points and a module `own_schemes`."""

    def install(points: str, module: str) -> None:
        about = tmp_path / "own_schemes-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-schemes\nVersion: 1\n", "utf-8")
        (about / "entry_points.txt").write_text(points, "utf-8")
        (tmp_path / "own_schemes.py").write_text(module, "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        installed.cache_clear()

    yield install
    monkeypatch.undo()
    installed.cache_clear()
    sys.modules.pop("own_schemes", None)


def test_the_names_come_without_numpy() -> None:
    code = "import sys; from userrl.rewards import CREDITS; assert 'em' in CREDITS and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_scheme_that_a_program_adds_is_used_and_known_to_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CREDITS, "late", lambda rewards, /, **_: np.broadcast_to([1.0, 3.0], np.shape(rewards)))
    got = advantages([[0.0, 1.0], [0.0, 0.0]], [0, 0], [[5, 5], [5, 5]], credit="late", scale=False, gamma=1.0)
    assert [row.tolist() for row in got] == [[0.25, 0.75], [-0.25, -0.75]]
    with pytest.raises(UnknownName, match="Did you mean 'late'"):
        CREDITS.find("latte")
    assert list(CREDITS) == [*CREDITS.built_in, "late"] and len(CREDITS) == 5


def test_a_scheme_of_ours_cannot_be_replaced_unseen() -> None:
    with pytest.raises(ConfigError, match="trajectory score of userrl's own named 'sum'"):
        SCORES["sum"] = SCORES["mean"]


def test_an_entry_point_is_a_scheme_loaded_when_it_is_asked_for(package: Callable[[str, str], None]) -> None:
    package(
        "[userrl.scores]\nbest = own_schemes:best\nsum = own_schemes:best\n",
        "def best(rewards, /, **_):\n    return rewards.max(-1)\n",
    )
    assert "best" in SCORES and "own_schemes" not in sys.modules
    got = advantages([[0.0, 1.0, 0.2], [0.5]], [0, 0], [[1, 1, 1], [1]], score="best", estimator="dr_grpo")
    assert [row[0] for row in got] == [0.25, -0.25]
    assert SCORES["sum"]([1.0, 1.0]) == 2, "ours goes before one of the same name"


@pytest.mark.parametrize(
    ("point", "said"), [("own_schemes:gone", "gone"), ("no_such_module:x", "no_such_module"), ("own_schemes", "")]
)
def test_an_entry_point_that_leads_nowhere_is_named(package: Callable[[str, str], None], point: str, said: str) -> None:
    package(f"[userrl.estimators]\nbroken = {point}\n", "")
    with pytest.raises(ConfigError, match=f"advantage estimator 'broken' cannot be loaded from '{point}'.*{said}"):
        ESTIMATORS.find("broken")


def test_a_scheme_says_what_it_reads() -> None:
    found = {name: read_by(scheme) for name, scheme in ESTIMATORS.items()}
    assert found["mt_grpo"] == Reads(credit=False, score=False)
    assert [name for name, read in found.items() if read.states] == ["gigpo"]
    assert [name for name, score in SCORES.items() if read_by(score).success] == ["composite"]
    assert read_by(reads(credit=False)(lambda batch, /, **_: batch)) == Reads(credit=False)
    assert read_by(lambda batch: batch) == Reads()


def test_names_are_listed_for_people() -> None:
    assert Schemes[int]("x", "userrl.none", {"a": "", "b": "", "c": ""}).listed() == "a, b or c"
