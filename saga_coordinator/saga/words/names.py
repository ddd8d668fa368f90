"""The names that people give: one pattern for definitions and participants, and one for events."""

from __future__ import annotations

import re

NAME_CHARACTERS_MAX = 100

EVENT_NAME_CHARACTERS_MAX = 100

NAME = re.compile(rf"[a-z][A-Za-z0-9_.-]{{0,{NAME_CHARACTERS_MAX - 1}}}")
STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
"""The pattern for steps and for the variables of loops: expressions can read them by these names."""
EVENT_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_.:/-]{{0,{EVENT_NAME_CHARACTERS_MAX - 1}}}")
