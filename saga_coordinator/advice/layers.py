"""The order of a block's steps, as drawings show it: in layers, each step right after the last of those it waits for."""

from __future__ import annotations

from saga_coordinator.saga.definition.model import Block, Step


def layers(block: Block) -> list[list[Step]]:
    """The steps by their distance from the beginning; within a layer so that few arrows cross."""
    depth: dict[str, int] = {}
    for step in sorted(block.steps, key=lambda step: len(block.dependencies[step.name])):
        depth[step.name] = max((depth[other] + 1 for other in step.after), default=0)
    found: list[list[Step]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for step in block.steps:
        found[depth[step.name]].append(step)
    row: dict[str, float] = {}
    for layer in found:
        # Each step is placed beside the middle of the steps that it waits for. Otherwise the stable sort keeps the written
        # order.
        layer.sort(key=lambda step: _middle([row[other] for other in direct(block, step)]))
        row.update({step.name: index - len(layer) / 2 for index, step in enumerate(layer)})
    return found


def _middle(rows: list[float]) -> float:
    return sum(rows) / len(rows) if rows else 0.0


def direct(block: Block, step: Step) -> tuple[str, ...]:
    """The direct dependencies that the drawing needs: those that no other dependency of the step waits for."""
    return tuple(
        other
        for other in step.after
        if not any(other in block.dependencies[between] for between in step.after if between != other)
    )
