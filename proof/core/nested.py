"""Random definitions that use everything: blocks in blocks, waits, child sagas, conditions, limits, and what failures mean."""

from __future__ import annotations

from random import Random
from typing import Any

from proof.core.definitions import random_operation

STEPS_MAX = 7
NESTING_MAX = 2
CALLS = ["call"] * 9 + ["child"]
WAITS = ["delay", "await_event", "approval"]
BLOCKS = ["switch", "for_each", "repeat"]


def random_nested_source(random: Random) -> dict[str, Any]:
    source: dict[str, Any] = {"name": "nested", "steps": _Author(random).definition_steps()}
    if random.random() < 0.2:
        source["deadline"] = f"{random.randint(5, 60)}s"
    if random.random() < 0.3:
        source["max_parallel"] = random.choice([1, 2])
    return source


class _Author:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.count = 0
        self.is_late = False
        """Whether the steps written now come after the pivot."""

    def definition_steps(self) -> list[dict[str, Any]]:
        is_linear = self.random.random() < 0.5
        steps = self.block([], 0, is_linear=is_linear)
        if is_linear and self.random.random() < 0.25:
            steps.append(self.pivot())
            self.is_late = True
            steps += self.block([], 0, is_linear=True)[:2]
        return steps

    def pivot(self) -> dict[str, Any]:
        return {"name": self.name(), "pivot": True, "action": random_operation(self.random, None)}

    def name(self) -> str:
        self.count += 1
        return f"s{self.count - 1}"

    def block(
        self, variables: list[str], depth: int, *, is_linear: bool | None = None
    ) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        is_linear = self.random.random() < 0.5 if is_linear is None else is_linear
        for _ in range(self.random.choice([1, 2, 2, 3] if depth else [2, 3, 4])):
            step = self.step(variables, depth, steps)
            ignored = [
                each["name"] for each in steps if each.get("action", {}).get("on_failure") == "continue"
            ]
            if is_linear and ignored and "action" in step:
                self._look_back(step, self.random.choice(ignored))
            if not is_linear:
                step["after"] = [each["name"] for each in steps if self.random.random() < 0.4]
            steps.append(step)
        return steps

    def _look_back(self, step: dict[str, Any], ignored: str) -> None:
        """Lets the step depend on what became of one whose failure does not matter."""
        match self.random.randrange(4):
            case 0:
                step["when"] = f"steps.{ignored}.status == 'FAILED'"
            case 1:
                step["action"]["input"] = {"seen": f"${{steps.{ignored}.output}}"}
            case 2 if "compensation" in step:
                step["compensation"]["input"] = {"seen": f"${{steps.{ignored}.output}}"}
            case _:
                pass

    def step(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        is_room = depth < NESTING_MAX and self.count < STEPS_MAX
        kind = self.random.choice(
            self.random.choice([CALLS, CALLS, CALLS, WAITS, BLOCKS if is_room else CALLS])
        )
        step = {"name": self.name(), **getattr(self, f"_{kind}")(variables, depth, before)}
        if self.random.random() < 0.2 and kind != "child":
            step["when"] = self.random.choice(["input.yes", "input.no", *variables])
        return step

    # Calls.

    def _call(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        random = self.random
        step: dict[str, Any] = {"action": random_operation(random, None)}
        said = random.choice([None] * 8 + ["pause", "continue", "continue"])
        if said:
            step["action"]["on_failure"] = said
        elif random.random() < 0.05:
            step["recovery"] = "forward"
        if random.random() < 0.15:
            step["deadline"] = f"{random.choice([1, 3, 6])}s"
        excuse = random.choice([None] * 6 + ["read_only", "irreversible"])
        if self.is_late:
            return step
        if excuse:
            step[excuse] = True
        else:
            step["compensation"] = random_operation(random, random.choice([None, "${output.id}"]))
            step["compensate_on_refusal"] = random.random() < 0.15
            if random.random() < 0.2:
                step["compensation"]["on_failure"] = "continue"
        return step

    def _child(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "saga": {"definition": "child"},
            **({} if self.random.random() < 0.8 else {"irreversible": True}),
        }

    # Waits.

    def _delay(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        return {"delay": f"{self.random.choice([1, 5])}s"}

    def _await_event(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        wait: dict[str, Any] = {"event": self.random.choice(["paid", "packed"]), **self._timeout()}
        correlation = self.random.choice(
            [None, "order-1", "item-${index}" if "index == 1" in variables else "order-2"]
        )
        if correlation:
            wait["correlation"] = correlation
        return {"await_event": wait, **self._wait_failure()}

    def _approval(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        approval = {**self._timeout(), "approvers": self.random.choice([[], ["anna", "bert"]])}
        return {"approval": approval, **self._wait_failure()}

    def _timeout(self) -> dict[str, Any]:
        if self.random.random() < 0.6:
            return {}
        timeout = {"timeout": f"{self.random.choice([2, 10])}s"}
        return {**timeout, "on_timeout": "continue"} if self.random.random() < 0.5 else timeout

    def _wait_failure(self) -> dict[str, Any]:
        said = self.random.choice([None, None, None, "pause", "continue"])
        return {"on_failure": said} if said else {}

    # Blocks.

    def _switch(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        conditions = ["input.yes", "input.no", "input.n == 1", "size(input.three) > 3", *variables]
        cases = [
            {"when": self.random.choice(conditions), "steps": self.block(variables, depth + 1)}
            for _ in range(self.random.choice([1, 2]))
        ]
        switch: dict[str, Any] = {"cases": cases}
        if self.random.random() < 0.5:
            switch["otherwise"] = {"steps": self.block(variables, depth + 1)}
        return {"switch": switch}

    def _for_each(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        loop: dict[str, Any] = {
            "items": f"input.{self.random.choice(['three', 'three', 'one', 'none'])}",
            "steps": self.block([*variables, "item != 'b'", "index == 1"], depth + 1),
        }
        if self.random.random() < 0.5:
            loop["max_parallel"] = self.random.choice([1, 2])
        return {"for_each": loop}

    def _repeat(self, variables: list[str], depth: int, before: list[dict[str, Any]]) -> dict[str, Any]:
        wanted = self.random.choice([1, 2, 2, 3])
        return {
            "repeat": {
                "until": f"number >= {wanted}",
                "max_passes": self.random.choice([wanted, wanted, wanted + 1, max(1, wanted - 1)]),
                "steps": self.block([*variables, "number > 1"], depth + 1),
            }
        }
