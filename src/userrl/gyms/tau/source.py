"""tau-bench's data as files: its databases, texts and tasks, from either of two layouts.

    FOLDER/{retail,airline}/{orders,...}.json[.gz]  policy.md  tools.json  tasks_{test,train,dev}.json[.gz]
    FOLDER/messages.json                                           an extracted folder, or what was imported
    CHECKOUT/tau_bench/envs/{retail,airline}/data/*.json  wiki.md  tools/*.py  tasks_*.py            a checkout

The Python files of a checkout are read as text: literals are taken out of their syntax trees, nothing is run.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from userrl.errors import DataError

TABLES: Mapping[str, tuple[str, ...]] = {
    "retail": ("orders", "products", "users"),
    "airline": ("flights", "reservations", "users"),
}
"""Domain -> its tables."""
FIELDS: Mapping[str, frozenset[str]] = {
    "orders": frozenset({"order_id", "user_id", "address", "items", "status", "payment_history"}),
    "products": frozenset({"name", "product_id", "variants"}),
    "flights": frozenset({"origin", "destination", "scheduled_departure_time_est", "scheduled_arrival_time_est", "dates"}),
    "reservations": frozenset({"user_id", "cabin", "flights", "passengers", "payment_history", "nonfree_baggages"}),
    "users": frozenset({"name", "address", "email", "payment_methods"}),
}
"""Table -> what each record must have."""
SPLITS = ("test", "train", "dev")
"""Of tasks; airline has but the first."""
HASHES = "files.json"
"""Beside imported files: name -> SHA-256."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Texts:
    """What a domain says."""

    policy: str
    """The rules that the agent has to keep."""
    tools: Sequence[Row]
    """In OpenAI's function form."""
    messages: Mapping[str, str]
    """Code of a result -> words, with {slots}."""


def is_checkout(folder: Path) -> bool:
    return (folder / "tau_bench" / "envs").is_dir()


def verify(folder: Path) -> None:
    """Check imported files against the hashes recorded when they were imported. Raises DataError."""
    hashes = _json(folder / HASHES)
    for name, expected in hashes.items():
        if hashlib.sha256(_bytes(folder / name)).hexdigest() != expected:
            raise DataError(
                f"{folder / name}: is not the file that was imported; its SHA-256 should be {expected[:12]}…. "
                f"Import it again: `userrl data import tau-bench PATH`."
            )


def tables(folder: Path, domain: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Table -> id -> record of a domain. Raises DataError for a file that is missing or broken."""
    where = folder / "tau_bench" / "envs" / domain / "data" if is_checkout(folder) else folder / domain
    return {table: _table(where / f"{table}.json", FIELDS[table]) for table in TABLES[domain]}


def _table(path: Path, fields: frozenset[str]) -> dict[str, dict[str, Any]]:
    rows = _json(path)
    if not isinstance(rows, dict) or not rows:
        raise DataError(f"{path}: holds no JSON object; expected one with a record for each id. Restore the file.")
    for key, row in rows.items():
        if not isinstance(row, dict) or fields - row.keys():
            lacks = min(fields - row.keys()) if isinstance(row, dict) else "everything"
            raise DataError(f"{path}, record {key!r}: lacks {lacks!r}. Restore the file.")
    return rows


def texts(folder: Path, domain: str) -> Texts:
    """The texts of a domain. A checkout has its messages in program text, so none are read from it: `messages` is empty."""
    if is_checkout(folder):
        where = folder / "tau_bench" / "envs" / domain
        return Texts(_text(where / "wiki.md"), _tools_of_checkout(where / "tools"), {})
    messages = _json(folder / "messages.json") if (folder / "messages.json").is_file() else {}
    words = {**messages.get("other", {}), **messages.get(domain, {})}
    templates = {code: entry["template"] for code, entry in words.items()}
    return Texts(_text(folder / domain / "policy.md"), _json(folder / domain / "tools.json"), templates)


def tasks(folder: Path, domain: str) -> dict[str, list[Row]]:
    """Split -> rows of {id, user_id, instruction, actions: [{name, kwargs}], outputs}, for the splits that are there."""
    found: dict[str, list[Row]] = {}
    for split in SPLITS:
        if is_checkout(folder):
            path = folder / "tau_bench" / "envs" / domain / f"tasks_{split}.py"
            rows = list(_tasks_of_checkout(path, domain if split == "test" else f"{domain}-{split}")) if path.is_file() else []
        else:
            path = folder / domain / f"tasks_{split}.json"
            rows = _json(path) if _is_there(path) else []
        if rows:
            found[split] = rows
    return found


# --- files ---------------------------------------------------------------------------------------------------


def _is_there(path: Path) -> bool:
    return path.is_file() or path.with_name(f"{path.name}.gz").is_file()


def _bytes(path: Path) -> bytes:
    """The content of a file, or of the compressed one in its place."""
    packed = path.with_name(f"{path.name}.gz")
    try:
        return gzip.decompress(packed.read_bytes()) if packed.is_file() else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected tau-bench's data, extracted or as a checkout.") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}). Restore the file.") from error


def _json(path: Path) -> Any:
    text = _text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Restore the file.") from error


# --- Python files of a checkout --------------------------------------------------------------------------------


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(_text(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as Python ({error}). Restore the file.") from error


def _literal(node: ast.expr, path: Path) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}, line {node.lineno}: expected a literal ({error}). Use the official commit.") from error


def _tasks_of_checkout(path: Path, prefix: str) -> Iterator[Row]:
    """The calls `Task(...)` in a file, in order."""
    calls = [node for node in ast.walk(_tree(path)) if _calls(node, "Task")]
    for number, call in enumerate(sorted(calls, key=lambda node: node.lineno)):  # type: ignore[attr-defined]
        fields = _keywords(call)
        if missing := {"user_id", "instruction", "actions", "outputs"} - set(fields):
            raise DataError(f"{path}, task {number}: field {min(missing)!r} is missing. Use the official commit.")
        actions = fields["actions"]
        made = [_keywords(node) for node in actions.elts] if isinstance(actions, ast.List) else []
        yield {
            "id": f"{prefix}-{number:03}",
            **{name: _literal(fields[name], path) for name in ("user_id", "instruction", "outputs")},
            "actions": [{name: _literal(action[name], path) for name in ("name", "kwargs")} for action in made],
        }


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _keywords(node: ast.AST) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in node.keywords if k.arg} if isinstance(node, ast.Call) else {}


def _tools_of_checkout(folder: Path) -> list[Row]:
    """What each tool's `get_info` returns, in the order of ALL_TOOLS."""
    infos: dict[str, Row] = {}
    for path in sorted(folder.glob("*.py")):
        for tool in ast.walk(_tree(path)):
            if isinstance(tool, ast.ClassDef):
                inside = [node for method in tool.body if _is_info(method) for node in ast.walk(method)]
                for node in inside:
                    if isinstance(node, ast.Return) and node.value:
                        infos[tool.name] = _literal(node.value, path)
    for node in ast.walk(_tree(folder / "__init__.py")):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            names = [name.id for name in node.value.elts if isinstance(name, ast.Name)]
            return [infos[name] for name in names if name in infos]
    raise DataError(f"{folder / '__init__.py'}: holds no list of tools. Use the official commit.")


def _is_info(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "get_info"
