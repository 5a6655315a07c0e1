"""The tests of the plug-in for verl, which need verl's own environment: `make test-verl`. Elsewhere they are left out."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

WITHOUT_VERL = "test_verl_absent.py"
HERE = Path(__file__).parent
collect_ignore = [WITHOUT_VERL] if find_spec("verl") else [p.name for p in HERE.glob("test_*.py") if p.name != WITHOUT_VERL]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

if find_spec("verl"):
    with warnings.catch_warnings():  # of verl's and its requirements' own code
        warnings.simplefilter("ignore")
        import_module("verl.trainer.ppo.v1")
