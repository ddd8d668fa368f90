"""The locks of the image: everything that the project asks for is there, in a version that it takes, with hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\\\]+).*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL
)


DEPENDENCIES, REQUIRES = ("project", "dependencies"), ("build-system", "requires")


@pytest.mark.parametrize(
    ("file", "path", "folder"),
    [
        ("server", DEPENDENCIES, "."),
        ("server", DEPENDENCIES, "clients/sagactl"),
        ("build", REQUIRES, "."),
        ("build", REQUIRES, "clients/sagactl"),
    ],
)
def test_what_is_asked_for_is_locked(file: str, path: tuple[str, str], folder: str) -> None:
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "deploy" / "locks" / f"{file}.txt").read_text(encoding="utf-8")
    locked = {canonicalize_name(found["name"]): found for found in LOCKED.finditer(text)}
    for found in locked.values():
        assert "--hash=sha256:" in found[0], found["name"]
    for written in project[path[0]][path[1]]:
        requirement = Requirement(written)
        assert locked[canonicalize_name(requirement.name)]["version"] in requirement.specifier, written
