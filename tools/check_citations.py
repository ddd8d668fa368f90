"""Finds what the repository cites and does not have: pages, sections, promises, decisions, and the code that pages name.

    python -m tools.check_citations

Prints each place as `path:line: why` and exits 1 when there is any. It reads the same files as `tools.find_leftovers`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tools.find_leftovers import ROOT, project_files

PROMISES = "docs/concepts.md"
OF_CODE = ("docs/architecture.md", "docs/reliability.md")
"""The pages that name code below the package."""
MADE_UP = "tests/unit/test_citations.py"
"""Cites on purpose what is not there."""

_PAGE = re.compile(r"(?<![\w/.{}-])((?:[\w.-]+/)*[\w-]+\.md)\b(?!`?\s*=)")
_PROMISE = re.compile(r"\bP(\d{1,2})\b")
_DECISION = re.compile(r"\b[Dd]ecisions? (\d{4})\b")
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"`(?!saga\.v1)(\w+(?:\.\w+)+)(?<!\.py)`")
_URL = re.compile(r"https?://\S+")


def citations(root: Path = ROOT) -> Iterator[str]:
    """Each citation of something that is not there, as `path:line: why`."""
    promised = set(re.findall(r"^\| P(\d+) \|", (root / PROMISES).read_text(encoding="utf-8"), re.MULTILINE))
    for path in project_files(root):
        name = path.relative_to(root).as_posix()
        if name == MADE_UP:
            continue
        is_page = path.suffix == ".md"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            said = _URL.sub("", line)
            faults = [
                *(f"there is no {page}" for page in _PAGE.findall(said) if not _is_there(root, path, page)),
                *(f"there is no promise P{each}" for each in _PROMISE.findall(said) if each not in promised),
                *(
                    f"there is no decision {each}"
                    for each in _DECISION.findall(said)
                    if not _decision(root, each)
                ),
                *(_links(root, path, said) if is_page else ()),
                *(_code(root, said) if name in OF_CODE else ()),
            ]
            yield from (f"{name}:{number}: {fault}" for fault in faults)


def _is_there(root: Path, path: Path, page: str) -> bool:
    return any((folder / page).is_file() for folder in (root, path.parent, root / "docs", *path.parents[:2]))


def _decision(root: Path, number: str) -> bool:
    return any((root / "docs" / "decisions").glob(f"{number}-*.md"))


def _links(root: Path, path: Path, line: str) -> Iterator[str]:
    for target, section in _LINK.findall(line):
        place = (path.parent / target).resolve() if target else path
        if not place.exists():
            yield f"the link leads nowhere: {target}"
        elif section and place.suffix == ".md" and section not in _sections(place):
            yield f"{place.relative_to(root)} has no section #{section}"


@cache
def _sections(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)


def _code(root: Path, line: str) -> Iterator[str]:
    """Names such as `engine.advance.Advance.advance`, below the package, that are not in the code."""
    for name in _CODE.findall(line):
        first, *_ = parts = name.split(".")
        package = root / "saga_coordinator"
        if ((package / first).is_dir() or (package / f"{first}.py").is_file()) and not _defined(
            package, parts
        ):
            yield f"there is no {name} in saga_coordinator"


def _defined(folder: Path, parts: list[str]) -> bool:
    first, *rest = parts
    if (folder / first).is_dir():
        return not rest or _defined(folder / first, rest)
    module = folder / f"{first}.py"
    if not module.is_file():
        return False
    body: list[ast.stmt] = ast.parse(module.read_text(encoding="utf-8")).body
    for name in rest:
        named = [each for each in body if isinstance(each, _DEFINITIONS) and each.name == name]
        if not named:
            return False
        body = named[0].body
    return True


_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> int:
    found = list(citations())
    for place in found:
        print(place)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
