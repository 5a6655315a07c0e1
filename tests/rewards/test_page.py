"""docs/credit.md holds the schemes that there are and the biases as they are measured.

    python tests/rewards/test_page.py

writes both tables anew.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from userrl.rewards import CREDITS, ESTIMATORS, SCORES, advantages
from userrl.rewards.bias import COLUMNS, measure

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


def test_the_pages_example_is_a_scheme_in_twenty_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"`src/userrl/rewards/credits/late.py`:\n\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    assert len(found[1].splitlines()) + 2 <= 20, "the file, the line that imports it and the line in the table"
    names: dict[str, Any] = {}
    exec(compile(found[1], "late.py", "exec", dont_inherit=True), names)
    monkeypatch.setitem(CREDITS, "late", names["late"])  # type: ignore[arg-type]
    got = advantages([[0.0, 1.0], [0.0]], ["t", "t"], [[5, 5], [5]], credit="late", scale=False, gamma=1.0)
    assert [row.tolist() for row in got] == [pytest.approx([1 / 3, 2 / 3]), [-0.5]]


if __name__ == "__main__":
    PAGE.write_text(built(PAGE.read_text("utf-8")), "utf-8")
