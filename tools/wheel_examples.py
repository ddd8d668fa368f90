"""Build hook: a wheel carries examples/ as saga_coordinator/examples, which `saga-coordinator demo` runs.

An editable install does not: there the checkout's own examples/ is the only copy, so that it cannot go stale.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelExamples(BuildHookInterface):  # type: ignore[type-arg]  # hatchling ships no types
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"]["examples"] = "saga_coordinator/examples"
