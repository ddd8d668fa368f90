"""Draws a definition in characters: the way forward and, beneath it, the way back, each step above what undoes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from saga_coordinator.advice.layers import direct, layers
from saga_coordinator.saga.definition.model import (
    Approval,
    AwaitEvent,
    Block,
    Definition,
    ForEach,
    Operation,
    Repeat,
    Step,
    Switch,
)
from saga_coordinator.saga.words.immutable import immutable

WIDTH = 110
"""Columns that a drawing may take before it goes on in a next line."""
_FORWARD, _BACK = " ─▶ ", " ◀─ "

Lines = list[str]
"""A rectangle of text: its lines all have the same width."""


@immutable
class _Layer:
    """Steps that are drawn above each other; `is_joined` if every step of the next layer waits for all of them."""

    steps: Sequence[Step]
    is_joined: bool


def drawing(definition: Definition, width: int = WIDTH) -> Iterator[str]:
    """The lines of the drawing; `◆` marks the pivot, a frame the steps of a block."""
    for number, part in enumerate(_parts(definition, width)):
        if number:
            yield ""
        yield from _lane(
            "forward", [_drawn_layer(definition, layer, is_back=False) for layer in part], _FORWARD
        )
        back = [_drawn_layer(definition, layer, is_back=True) for layer in part]
        if any(line.strip() for layer in back for line in layer):
            yield ""
            yield from _lane("undo", back, _BACK)
    notes = list(_notes(definition.block))
    if notes:
        yield ""
        yield from notes


def _layers(block: Block) -> list[_Layer]:
    found = layers(block)
    return [
        _Layer(layer, bool(following) and all(_waits_for_all(block, step, layer) for step in following))
        for layer, following in zip(found, [*found[1:], []], strict=True)
    ]


def _waits_for_all(block: Block, step: Step, layer: Sequence[Step]) -> bool:
    return set(direct(block, step)) == {before.name for before in layer}


def _parts(definition: Definition, width: int) -> list[list[_Layer]]:
    """The layers, as many at once as fit into the width."""
    parts: list[list[_Layer]] = [[]]
    used = 0
    for layer in _layers(definition.block):
        columns = len(_drawn_layer(definition, layer, is_back=False)[0]) + len(_FORWARD)
        if parts[-1] and used + columns > width - 9:
            parts.append([])
            used = 0
        parts[-1].append(layer)
        used += columns
    return parts


def _lane(name: str, drawn: Sequence[Lines], arrow: str) -> Iterator[str]:
    for number, line in enumerate(_beside(drawn, arrow)):
        yield f"{name if number == 0 else '':8} {line}".rstrip()


def _beside(drawn: Sequence[Lines], arrow: str) -> Lines:
    """Rectangles side by side, with an arrow between those that have something in their first lines."""
    height = max(len(each) for each in drawn)
    padded = [[*each, *[" " * len(each[0])] * (height - len(each))] for each in drawn]
    lines: Lines = []
    for row in range(height):
        line = padded[0][row]
        for before, after in itertools.pairwise(padded):
            is_joined = row == 0 and before[0].strip() and after[0].strip()
            line += (arrow if is_joined else " " * len(arrow)) + after[row]
        lines.append(line)
    return lines


def _drawn_layer(definition: Definition, layer: _Layer, *, is_back: bool) -> Lines:
    cells: list[Lines] = []
    for step in layer.steps:
        forward = _cell(definition, step, is_back=False)
        back = _cell(definition, step, is_back=True)
        # Both ways are drawn alike, so that each compensation stands beneath its step.
        columns, rows = max(len(forward[0]), len(back[0])), max(len(forward), len(back))
        cells.append(_padded(back if is_back else forward, columns, rows))
    columns = max(len(cell[0]) for cell in cells)
    count = len(cells)
    is_parallel, is_joined = count > 1, count > 1 and layer.is_joined
    if not any(line.strip() for cell in cells for line in cell):
        return [" " * (columns + 2 * is_parallel + 2 * is_joined)]
    lines: Lines = []
    for number, cell in enumerate(cells):
        for row, line in enumerate(_padded(cell, columns, len(cell))):
            opening = _bracket("┌├└", number, count, row) + " " if is_parallel else ""
            closing = " " + _bracket("┐┤┘", number, count, row) if is_joined else ""
            lines.append(f"{opening}{line}{closing}")
    return lines


def _bracket(corners: str, number: int, count: int, row: int) -> str:
    """The part of a bracket beside one row of a cell. `corners` are the bracket's first character, a middle character and its
    last character.
    """
    if row:
        return "│" if number < count - 1 else " "
    return {0: corners[0], count - 1: corners[2]}.get(number, corners[1])


def _padded(lines: Lines, columns: int, rows: int) -> Lines:
    wide = [line.ljust(columns) for line in lines]
    return [*wide, *[" " * columns] * (rows - len(wide))]


def _cell(definition: Definition, step: Step, *, is_back: bool) -> Lines:
    if not step.blocks:
        return [undo_label(definition, step) if is_back else step_label(step)]
    inner: Lines = []
    for heading, block in block_parts(step):
        drawn = [_drawn_layer(definition, layer, is_back=is_back) for layer in _layers(block)]
        inner += [heading] if heading else []
        inner += _beside(drawn, _BACK if is_back else _FORWARD)
    if is_back and not any(line.strip() for line in _without(inner, step)):
        return [""]
    title = f" undo {step.name} " if is_back else f" {step.name}: {block_label(step)} "
    columns = max(len(step.name) + len(block_label(step)) + 5, *(len(line) for line in inner))
    body = [f"│ {line.ljust(columns)} │" for line in inner]
    return [f"┌─{title}{'─' * (columns - len(title))}─┐", *body, f"└─{'─' * columns}─┘"]


def _without(lines: Lines, step: Step) -> Lines:
    headings = {heading for heading, _ in block_parts(step)}
    return [line for line in lines if line not in headings]


def step_label(step: Step) -> str:
    """The step in a few characters."""
    mark = "◆ " if step.is_pivot else ""
    match step.action:
        case AwaitEvent(event=name):
            what = f" (event {name})"
        case Approval():
            what = " (approval)"
        case Operation() as operation if operation.is_child:
            what = f" (saga {operation.method})"
        case Operation():
            what = ""
        case _:
            what = " (delay)"
    return f"{mark}{step.name}{what}{'?' if step.when is not None else ''}"


def undo_label(definition: Definition, step: Step) -> str:
    """The compensation of the step, in a few characters; empty if there is nothing to undo or no way back."""
    if step.compensation is not None:
        return f"undo {step.name}"
    if step.is_irreversible and not (step.is_pivot or definition.is_after_pivot(step.name)):
        return f"! {step.name} stays"
    return ""


def block_label(step: Step) -> str:
    """The kind of the block, in words."""
    match step.action:
        case ForEach(items, _, limit, name):
            at_once = f", {limit} at once" if limit else ""
            return f"for each {name} of {items.source}{at_once}"
        case Repeat(until, _, passes):
            return f"until {until.source}, {passes} times at most"
        case _:
            return "one of"


def block_parts(step: Step) -> list[tuple[str, Block]]:
    """The blocks of a step, each with a heading. A single block has an empty heading."""
    match step.action:
        case Switch(cases):
            return [
                (f"when {case.when.source}:" if case.when is not None else "otherwise:", case.block)
                for case in cases
            ]
        case ForEach(block=block) | Repeat(block=block):
            return [("", block)]
        case _:
            return []


def _notes(block: Block) -> Iterator[str]:
    """Notes on what the drawing does not show: the steps that do not wait for the whole layer before them."""
    before: Sequence[Step] = ()
    for layer in layers(block):
        for step in layer:
            waits_for = direct(block, step)
            if before and not _waits_for_all(block, step, before):
                yield f"         {step.name} starts after {' and '.join(waits_for) if waits_for else 'nothing'}"
        before = layer
    for step in block.steps:
        for inner in step.blocks:
            yield from _notes(inner)
