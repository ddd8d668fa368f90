"""What the figures were taken on and with."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from saga_coordinator.store.embedded.binaries import find_binaries

_YARDSTICK_TRIALS = 500


def machine() -> dict[str, Any]:
    """Processor, memory, versions."""
    packages = ("saga-coordinator", "grpcio", "protobuf", "psycopg", "uvloop")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "postgres": _postgres(),
        "fsync": "on",
    }


def busy_share() -> float:
    """Of the processors' time, during the second that this takes: what others use, while nothing of ours runs."""
    return round(psutil.cpu_percent(interval=1.0) / 100, 2)


def yardstick() -> None:
    """What Python programs do: small objects, dicts, strings, calls. Never to be changed."""
    seen: dict[str, tuple[int, str]] = {}
    for number in range(300):
        key = f"key-{number % 37}"
        seen[key] = (number, seen.get(key, (0, ""))[1][-8:] + str(number))
    assert sum(sorted(first for first, _ in seen.values())) > 0


def yardstick_us() -> float:
    """Its processor time, in the middle of many: one machine has slower hours than others, and interpreters are built better or
    worse."""
    spent = []
    for _ in range(_YARDSTICK_TRIALS):
        began = time.process_time()
        yardstick()
        spent.append(1e6 * (time.process_time() - began))
    return round(statistics.median(spent))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _postgres() -> str:
    answer = subprocess.run(
        [find_binaries() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()
