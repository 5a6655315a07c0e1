"""Where verl is not installed, its commands say how to install it; the rest of userrl does not miss it."""

from __future__ import annotations

from pathlib import Path

import pytest

from userrl.cli import verl as commands
from userrl.errors import MissingExtra
from userrl.integrations.verl import data
from userrl.integrations.verl.check import check


def test_the_check_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r"Checking a run of verl needs .* pip install 'userrl\[verl\]'"):
        check()


def test_files_for_verl_are_made_without_it(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    commands.data(tmp_path, {"gyms": ("intention",), "train_tasks": 3, "val_tasks": 2})
    assert len(list(data.read(tmp_path / "train.parquet"))) == 3
    assert len(list(data.read(tmp_path / "val.parquet"))) == 2
