"""The names that people give: one pattern for definitions and participants, and one for events."""

from __future__ import annotations

import re

NAME_CHARACTERS_MAX = 100

EVENT_NAME_CHARACTERS_MAX = 100

NAME = re.compile(rf"[a-z][A-Za-z0-9_.-]{{0,{NAME_CHARACTERS_MAX - 1}}}")
STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
"""Of steps, and of the variables of loops: what expressions can read by its name."""
EVENT_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_.:/-]{{0,{EVENT_NAME_CHARACTERS_MAX - 1}}}")
