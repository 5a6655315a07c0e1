"""docs/credit.md holds the schemes that there are and the biases as they are measured.

    python tests/rewards/test_page.py

writes both tables anew.
"""

import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from userrl.errors import ConfigError, UnknownName
from userrl.rewards import CREDITS, ESTIMATORS, SCORES, advantages
from userrl.rewards.bias import COLUMNS, measure
from userrl.rewards.schemes import installed

PAGE = Path(__file__).parents[2] / "docs" / "credit.md"
PART = re.compile(r"(<!-- built by tests/rewards/test_page.py: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace(" --- ", "---") for cells in lines)


def schemes() -> str:
    tables: dict[str, Mapping[str, Callable[..., Any]]] = {"credit": CREDITS, "score": SCORES, "estimator": ESTIMATORS}
    rows = [
        (what, f"`{name}`", " ".join((inspect.getdoc(scheme) or "").split("\n\n")[0].split()))
        for what, known in tables.items()
        for name, scheme in known.items()
    ]
    return table(("what", "name", "it gives"), rows)


def bias() -> str:
    return table(COLUMNS, [found.cells() for found in measure()])


def built(text: str) -> str:
    parts = {"schemes": schemes, "bias": bias}
    return PART.sub(lambda found: f"{found[1]}{parts[found[2]]()}{found[4]}", text)


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert [found[2] for found in PART.finditer(text)] == ["schemes", "bias"]
    assert text == built(text), "python tests/rewards/test_page.py writes it anew"


def test_every_scheme_has_a_file_of_its_own() -> None:
    schemes = [*CREDITS.values(), *SCORES.values(), *ESTIMATORS.values()]
    assert len({inspect.getfile(scheme) for scheme in schemes}) == len(schemes)  # type: ignore[arg-type]


def test_the_pages_figures_of_the_whole_push_are_what_its_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text("utf-8").partition("## What credit does to the whole push")[2]
    found = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert found
    exec(compile(found[1], PAGE.name, "exec"), {})
    assert capsys.readouterr().out == found[2]


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's package, installed as an editable installation does it."""
    text = PAGE.read_text("utf-8").partition("## A scheme of your own")[2]
    files = dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert list(files) == ["pyproject.toml", "my_schemes/late.py", "my_schemes/turn_rloo.py"]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    groups = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]
    about = tmp_path / "my_schemes-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-schemes\nVersion: 0.1\n", "utf-8")
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *(f"{n} = {at}" for n, at in points.items()))]
    (about / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    installed.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_schemes"]:
        del sys.modules[name]


def test_the_pages_credit_is_used_by_name(own_package: Path) -> None:
    got = advantages([[0.0, 1.0], [0.0]], ["t", "t"], [[5, 5], [5]], credit="late", scale=False, gamma=1.0)
    assert [row.tolist() for row in got] == [pytest.approx([1 / 3, 2 / 3]), [-0.5]]


def test_the_pages_estimator_is_measured_without_credit_and_is_not_biased(own_package: Path) -> None:
    rows = {(b.estimator, b.credit): b for b in measure(groups=8000)}
    assert ("rloo", "late") in rows and [c for e, c in rows if e == "turn_rloo"] == [""]
    assert rows["turn_rloo", ""].verdict in ("no bias found", "unbiased")
    assert rows["rloo", "late"].verdict == "biased"


def test_the_pages_schemes_are_settings_of_training_and_arms_of_an_experiment(own_package: Path) -> None:
    pytest.importorskip("torch")
    from userrl.config import resolve
    from userrl.pipeline.experiment import shaping
    from userrl.train.grpo import GRPOConfig, check

    check(resolve(GRPOConfig, None, {"credit": "late"}))
    with pytest.raises(ConfigError, match="`credit` is 'late', but the estimator 'turn_rloo' makes no use of it"):
        check(resolve(GRPOConfig, None, {"credit": "late", "estimator": "turn_rloo"}))
    with pytest.raises(UnknownName, match=r"No turn credit named 'latte'. Did you mean 'late'"):
        resolve(GRPOConfig, None, {"credit": "latte"})
    assert shaping("late/r2g").credit == "late" and shaping("-/r2g/turn_rloo").estimator == "turn_rloo"


if __name__ == "__main__":
    PAGE.write_text(built(PAGE.read_text("utf-8")), "utf-8")
