"""The commands verl data, verl check and verl merge."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from userrl.cli.show import new_table, out, safe
from userrl.config import resolve
from userrl.errors import ConfigError
from userrl.integrations.verl.data import FILES, DataJob, export

LAUNCH = "python -m verl.trainer.main_ppo --config-path=pkg://userrl.integrations.verl.conf --config-name=userrl_grpo"


def data(folder: Path, flags: Mapping[str, Any]) -> None:
    job = resolve(DataJob, None, flags)
    counts = export(job, folder)
    table = new_table(f"Tasks in {folder}")
    table.add_column("gym")
    for purpose in counts:
        table.add_column(purpose, justify="right")
    for gym in job.gyms:
        table.add_row(safe(gym), *(str(rows[gym]) for rows in counts.values()))
    table.add_section()
    table.add_row("all", *(str(sum(rows.values())) for rows in counts.values()))
    out.print(table)
    files = [f"data.{purpose}_files={folder / name}" for purpose, name in FILES.items()]
    out.print(safe(f"\nNext: userrl verl check {' '.join(files)} actor_rollout_ref.model.path=MODEL", "dim"), soft_wrap=True)


def check(overrides: Sequence[str]) -> None:
    from userrl.integrations.verl.check import check as run_check

    findings = run_check(overrides)
    styles = {"ok": "green", "note": "yellow", "wrong": "red"}
    for finding in findings:
        out.print(safe(f"{finding.state:<6}", styles[finding.state]) + safe(f"{finding.what}: {finding.text}"), soft_wrap=True)
    wrong = sum(finding.state == "wrong" for finding in findings)
    out.print(safe(f"\n{wrong} of {len(findings)} checks failed." if wrong else f"\nAll {len(findings)} checks passed."))
    if not wrong:
        out.print(safe(f"Start:\n{LAUNCH} {shlex.join(overrides)}".rstrip(), "dim"), soft_wrap=True)
    sys.exit(1 if wrong else 0)


def merge(checkpoint: Path, folder: Path, template: str | None) -> None:
    from userrl.integrations.verl.merge import merge as run_merge

    try:
        settings = json.loads(template) if template else {}
    except ValueError as error:
        raise ConfigError(f"--template is {template!r:.60}, which is not JSON: {error}.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"""--template is {template!r:.60}; expected a JSON object such as '{{"enable_thinking": false}}'.""")
    out.print(safe(f"Policy: {run_merge(checkpoint, folder, settings)}"), soft_wrap=True)
    out.print(safe(f"Next: userrl eval intention --agent {folder}", "dim"), soft_wrap=True)
