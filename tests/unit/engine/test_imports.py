"""The engine needs no database driver to be imported: simulations, clients and tools use it without one."""

from __future__ import annotations

import subprocess
import sys

LOADED = (
    "import sys, saga_coordinator.engine.coordinator\n"
    "print(*sorted({'sqlalchemy', 'psycopg', 'alembic'} & sys.modules.keys()))"
)


def test_importing_the_engine_loads_no_sql() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
