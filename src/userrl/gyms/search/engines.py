"""The engines by name, and their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from userrl.errors import ConfigError, UnknownName
from userrl.gyms.search.corpus import Corpus, Tantivy
from userrl.gyms.search.results import Engine
from userrl.gyms.search.web import Http, Serper

ENGINES: Mapping[str, Callable[..., Engine]] = {"corpus": Corpus, "tantivy": Tantivy, "serper": Serper, "http": Http}


def engine(setting: Any) -> Engine:
    """The engine of a gym's setting `engine`: a name, or an object with the name and the engine's own settings.

    Nothing is loaded, and no key is looked for, before the first search.

    Raises UnknownName for an engine or a setting that there is not, ConfigError for a value that does not fit.

    >>> engine({"name": "corpus", "path": "passages.jsonl"})
    Corpus(path='passages.jsonl')
    """
    settings = {"name": setting} if isinstance(setting, str) else setting
    if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
        raise ConfigError(f"engine is {setting!r:.80}; expected a name ({', '.join(ENGINES)}), or an object with a name.")
    name, given = settings["name"], {key: value for key, value in settings.items() if key != "name"}
    if name not in ENGINES:
        raise UnknownName("search engine", name, ENGINES)
    kind: Any = ENGINES[name]
    known = [f.name for f in fields(kind)]
    for key in given:
        if key not in known:
            raise UnknownName(f"setting of the search engine {name!r}", key, known)
    try:
        made: Engine = _adapter(name).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "a setting"
        raise ConfigError(f"{place} of the search engine {name!r} is {first.get('input')!r:.60}: {first['msg']}.") from None
    return made


@cache
def _adapter(name: str) -> TypeAdapter[Engine]:
    kind: Any = ENGINES[name]
    return TypeAdapter(kind)
