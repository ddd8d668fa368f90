"""Lists the settings in docs/running.md as the program knows them.

python -m tools.list_settings            write the table
python -m tools.list_settings --check    exit 1 when what is written is not what would be
"""

import argparse
import re
import sys
from pathlib import Path

from saga_coordinator.config import OPTIONS, Option

PAGE = Path(__file__).resolve().parent.parent / "docs" / "running.md"
HEAD = "| flag and variable | default | may be | meaning |\n|---|---|---|---|\n"


def row(option: Option) -> str:
    default = f"`{option.default}`" if option.default else "required" if option.is_required else "none"
    return f"| `{option.flag}` `{option.variable}` | {default} | {option.bounds} | {option.help} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.list_settings")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    before = PAGE.read_text(encoding="utf-8")
    table = HEAD + "".join(row(option) for option in OPTIONS)
    after, places = re.subn(rf"{re.escape(HEAD)}(?:\|.*\n)+", lambda _: table, before)
    if places != 1:
        print(f"{PAGE.name} must have the table of settings once, not {places} times")
        return 1
    if arguments.check:
        if after != before:
            print(f"the table of settings in {PAGE.name} is not fresh: run `make generate`")
        return int(after != before)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
