"""Texts that were made before, on disk by their digest, so that they need not be made again.

    <cache>/tasks/<digest>      a text

No file is trusted: a text counts only if its SHA-256 begins with the digest that it is looked up by. A torn file, or one that
two processes wrote at once, is as good as none, and its text is made and written again. Where nothing can be written, nothing
is kept. The folder can be deleted at any time.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from userrl.data.home import cache_home
from userrl.errors import ConfigError


def cached(digest: str) -> str | None:
    """The text of a digest, the first hexadecimal digits of its SHA-256; None where it is not kept."""
    try:
        text = _path(digest).read_bytes()
    except (OSError, ConfigError):
        return None
    return text.decode() if hashlib.sha256(text).hexdigest().startswith(digest) else None


def keep(digest: str, text: str) -> None:
    """Keep a text, if there is a place for it."""
    with suppress(OSError, ConfigError):
        path = _path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def _path(digest: str) -> Path:
    return cache_home() / "tasks" / digest
