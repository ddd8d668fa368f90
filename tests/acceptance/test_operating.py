"""docs/operating.md, run line by line on a real server with a saga that needs a person."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sagactl.endings import Ending
from tests.acceptance.conftest import ROOT, Serving, Shop
from tests.acceptance.test_sagactl_bad_days import start_of
from tests.eventually import PATIENCE_SECONDS
from tests.sagactl_runs import environment_of, run_here

PAGE = ROOT / "docs" / "operating.md"

PARKED = """
name: parcel
steps:
  - {name: reserve, action: {participant: shop, method: quick}, compensation: {participant: shop, method: refuse}}
  - {name: charge, action: {participant: shop, method: refuse}, compensation: {participant: shop, method: undo}}
"""
ENDINGS = {"sagas watch": Ending.NO}
"""What ends otherwise than with 0: a saga that is compensated has not completed."""


def blocks() -> list[list[str]]:
    """The lines of each block of the page."""
    found: list[str] = re.findall(
        r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [block.splitlines() for block in found]


def test_every_line_of_the_runbook_does_what_the_page_says(
    coordinator: Serving, shop: Shop, tmp_path: Path
) -> None:
    at = ("--address", coordinator.address, "--timeout", "60s")
    (tmp_path / "definitions").mkdir()
    for text in (PARKED, PARKED.replace("name: parcel", "name: parcel\ndescription: the second")):
        (tmp_path / "definitions" / "parcel.yaml").write_text(text)
        assert run_here("apply", "-f", tmp_path / "definitions", *at).returncode == 0

    def parked() -> str:
        saga = run_here("sagas", "start", "parcel@1", "--fields", "saga.saga_id", *at).stdout.strip()
        assert run_here("wait", saga, "--for", "needs_attention", *at).returncode == 0
        return saga

    assert run_here("events", "publish", "payed", "order-1", *at).returncode == 0
    other = start_of(coordinator.address)
    program = tmp_path / "sagactl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sagactl "$@"\n')
    program.chmod(0o755)
    surroundings = environment_of({"SAGACTL_ADDRESS": coordinator.address, "SAGACTL_TIMEOUT": "60s"})
    surroundings["PATH"] = f"{tmp_path}{os.pathsep}{surroundings['PATH']}"
    for block in blocks():
        saga = parked() if any(" SAGA" in line or "=SAGA" in line for line in block) else ""
        for line in block:
            written = line.replace("OTHER", other).replace("SAGA", saga)
            done = subprocess.run(
                ["/bin/sh", "-c", written],
                capture_output=True,
                text=True,
                env=surroundings,
                cwd=tmp_path,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            words = " ".join(line.split()[1:3])
            assert done.returncode == ENDINGS.get(words, Ending.DONE), (line, done)
            assert done.stdout, line
    assert sum(map(len, blocks())) > 25
