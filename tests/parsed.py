"""The program, parsed: once for all tests of a process that look at its source."""

import ast
import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import saga_coordinator

PROGRAM = Path(saga_coordinator.__file__).parent


@functools.cache
def modules() -> Mapping[str, ast.Module]:
    """Each module of the program that is written by hand, by its path in the program's folder."""
    paths = ((path, path.relative_to(PROGRAM)) for path in sorted(PROGRAM.rglob("*.py")))
    return MappingProxyType(
        {
            place.as_posix(): ast.parse(path.read_text(encoding="utf-8"))
            for path, place in paths
            if "pb" not in place.parts
        }
    )
