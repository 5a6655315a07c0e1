"""Settings of a job: a TOML file and flags resolved into one frozen dataclass.

Jobs are plain frozen dataclasses beside the code that uses them. Flags win over the file, the file over defaults.
The resolved job is saved with its results (`as_dict`), so that a run names exactly what made it.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from userrl.errors import ConfigError, UnknownName

T = TypeVar("T")

Count = Annotated[int, Field(ge=1, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]
AtLeast0 = Annotated[float, Field(ge=0, strict=True)]
Above0 = Annotated[float, Field(gt=0, strict=True)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
"""Ranges of numbers, for the fields of jobs; `resolve` keeps them, and takes no text for a number."""


def resolve(
    job: type[T],
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    below: Mapping[str, Any] | None = None,
) -> T:
    """The job that a file and flags describe.

    Args:
        job: a frozen dataclass; its fields may be dataclasses too (a TOML table each).
        flags: dotted names ("grpo.lr") to values; None means not given.
        below: settings that go before the job's own defaults, and behind the file and the flags.

    Raises:
        UnknownName: for a setting that the job does not have, with near misses.
        ConfigError: for a value that does not fit, or a file that cannot be read.
    """
    from_file = _read(file) if file else {}
    _check_names(job, from_file, str(file))
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    from_flags: dict[str, Any] = {}
    for name, value in given.items():
        *tables, last = name.split(".")
        table = from_flags
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = value
    _check_names(job, from_flags, "the flags")
    try:
        return TypeAdapter(job).validate_python(_merge(_merge(_tables(job), below or {}), _merge(from_file, from_flags)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise ConfigError(f"The setting {name!r} is missing; give it as a flag, or in a file with --config.") from None
        where = "the flags" if file is None or name in given else file
        raise ConfigError(f"{where}: {name} is {first['input']!r:.60}: {first['msg']}.") from None


def pairs(option: str, words: Iterable[str], form: str) -> dict[str, str]:
    """The words "key=value" of an option that may be given more than once, as a table.

    Args:
        form: what a word looks like, for the message: "GYM=WEIGHT".

    Raises ConfigError for a word of another form, and for a key that is given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise ConfigError(f"{option} is {word!r}; expected {form}.")
        if key in found:
            raise ConfigError(f"{option} is given twice for {key!r}: {key}={found[key]} and {word}. Give one of the two.")
        found[key] = value
    return found


def as_dict(job: Any) -> dict[str, Any]:
    """A job as JSON values."""
    value: dict[str, Any] = TypeAdapter(type(job)).dump_python(job, mode="json")
    return value


def _tables(job: type[Any]) -> dict[str, Any]:
    """The job's own defaults of its tables: a table that is given in part keeps them for the rest."""
    made = {f.name: f.default_factory() for f in dataclasses.fields(job) if f.default_factory is not dataclasses.MISSING}
    return {
        name: {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        for name, value in made.items()
        if dataclasses.is_dataclass(value)
    }


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` wins; tables that both have are merged."""
    out = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(out.get(name), dict)
        out[name] = _merge(out[name], value) if both else value
    return out


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}. Check the path given with --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.") from error


def _check_names(job: type[Any], values: Mapping[str, Any], where: str, table: str = "") -> None:
    hints = get_type_hints(job)
    known = [f.name for f in dataclasses.fields(job)]
    for name, value in values.items():
        if name not in known and not table and (homes := [home for home, names in _tables(job).items() if name in names]):
            places = " or ".join(f"[{home}]" for home in homes)
            raise UnknownName(f"setting in {where}", name, (), f"It belongs into the table {places}.")
        if name not in known:
            raise UnknownName(f"setting in {where}{f', table [{table}],' if table else ''}", name, known)
        if dataclasses.is_dataclass(hints[name]):
            kind = hints[name]
            assert isinstance(kind, type)
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {name} is {value!r:.60}; expected a table [{name}].")
            _check_names(kind, value, where, name)
