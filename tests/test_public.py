"""The names that `import userrl` offers."""

import subprocess
import sys

import pytest

import userrl


def test_every_public_name_is_there_and_documented() -> None:
    for name in userrl.__all__:
        assert getattr(userrl, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mak'"):
        userrl.mak  # noqa: B018


def test_the_example_of_the_package_runs_and_nothing_heavy_is_loaded_by_the_import() -> None:
    assert userrl.__doc__
    example = "\n".join(line.strip() for line in userrl.__doc__.splitlines() if line.startswith("    "))
    check = "import sys; import userrl; assert not {'torch', 'numpy', 'pydantic', 'aiohttp'} & set(sys.modules)\n"
    code = f"{check}{example}\nassert len(episodes) == 8 and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
