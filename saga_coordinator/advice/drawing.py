"""A definition drawn as SVG: the way forward and, beneath it, the way back; blocks as frames, the pivot marked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from saga_coordinator.advice.layers import direct, layers
from saga_coordinator.advice.text import block_label, block_parts, step_label
from saga_coordinator.saga.definition.model import Block, Definition, Operation, Step

ROW_WIDTH_MAX = 1300.0
"""Pixels; a saga that is longer goes on in a next row."""
_BOX_HEIGHT, _GAP_X, _GAP_Y, _PAD = 44.0, 46.0, 16.0, 14.0
_HEADING, _MARGIN, _LANE_GAP, _ROW_GAP = 20.0, 24.0, 30.0, 56.0
_LANE_NAME = 88.0
_CHARACTER, _SMALL_CHARACTER = 8.0, 6.8
_LABEL_MAX = 34

_STYLE = """
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1f2933; }
.small { font-size: 11px; fill: #52606d; }
.title { font-size: 16px; font-weight: bold; }
.lane { font-size: 12px; fill: #52606d; letter-spacing: 0.08em; }
.step { fill: #ffffff; stroke: #3e6b96; stroke-width: 1.4; }
.wait { fill: #f5f7fa; stroke: #7b8794; stroke-width: 1.4; stroke-dasharray: 5 3; }
.pivot { fill: #fff6e0; stroke: #b77900; stroke-width: 2.4; }
.undo { fill: #fdf1f0; stroke: #b0413e; stroke-width: 1.2; }
.stays { fill: #ffffff; stroke: #b0413e; stroke-width: 1.2; stroke-dasharray: 3 3; }
.frame { fill: #00000006; stroke: #9aa5b1; stroke-width: 1; }
.go { fill: none; stroke: #3e6b96; stroke-width: 1.4; }
.back { fill: none; stroke: #b0413e; stroke-width: 1.2; }
.ghead { fill: #3e6b96; } .bhead { fill: #b0413e; }
"""


@dataclass(frozen=True, slots=True)
class _Box:
    """A step that runs no block, at a place. Pixels."""

    step: Step
    x: float
    y: float
    width: float

    def moved(self, x: float, y: float) -> _Box:
        return _Box(self.step, self.x + x, self.y + y, self.width)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A block around steps; `headings` are the texts in it, with their heights below its top."""

    step: Step
    x: float
    y: float
    width: float
    height: float
    headings: tuple[tuple[str, float], ...]

    def moved(self, x: float, y: float) -> _Frame:
        return _Frame(self.step, self.x + x, self.y + y, self.width, self.height, self.headings)


_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Arrow:
    """A way through points, from the right side of a step to the left side of a later step."""

    points: tuple[_Point, ...]

    def moved(self, x: float, y: float) -> _Arrow:
        return _Arrow(tuple((px + x, py + y) for px, py in self.points))


@dataclass
class _Picture:
    """Laid out from (0, 0). `back` are the arrows of the way back, drawn from their ends to their starts."""

    width: float = 0.0
    height: float = 0.0
    boxes: list[_Box] = field(default_factory=list)
    frames: list[_Frame] = field(default_factory=list)
    arrows: list[_Arrow] = field(default_factory=list)
    back: list[_Arrow] = field(default_factory=list)

    def put(self, other: _Picture, x: float, y: float) -> None:
        """Puts another picture in at that place."""
        self.boxes += [each.moved(x, y) for each in other.boxes]
        self.frames += [each.moved(x, y) for each in other.frames]
        self.arrows += [each.moved(x, y) for each in other.arrows]
        self.back += [each.moved(x, y) for each in other.back]
        self.width, self.height = max(self.width, x + other.width), max(self.height, y + other.height)


def draw_svg(definition: Definition) -> str:
    """The whole document."""
    rows = [_row(definition, definition.block, part) for part in _parts(definition)]
    width = max(row.width for row in rows) + _LANE_NAME + 2 * _MARGIN
    width = max(width, len(definition.name) * 10 + 2 * _MARGIN)
    body: list[str] = []
    y = _MARGIN + 34
    for number, row in enumerate(rows):
        back_y = y + row.height + _LANE_GAP
        has_way_back = any(_undo_class(definition, box.step) for box in row.boxes)
        body += _forward_lane(definition, row, y)
        if has_way_back:
            body += _undo_lane(definition, row, back_y)
        bottom = back_y + row.height if has_way_back else y + row.height
        if number < len(rows) - 1:
            body.append(_turn(row, rows[number + 1], y, bottom))
        y = bottom + _ROW_GAP
    height = y - _ROW_GAP + _MARGIN
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(definition.name)}">'
    )
    return "\n".join(
        [
            opening,
            f"<style>{_STYLE}</style>",
            "<defs>",
            *(_head(name) for name in ("ghead", "bhead")),
            "</defs>",
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            _text(_MARGIN, _MARGIN + 10, definition.name, "title"),
            *body,
            "</svg>",
            "",
        ]
    )


def _head(name: str) -> str:
    return (
        f'<marker id="{name}" class="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker>'
    )


# Where things are.


def _parts(definition: Definition) -> list[list[list[Step]]]:
    """The layers, as many at once as fit into a row."""
    parts: list[list[list[Step]]] = [[]]
    used = 0.0
    for layer in layers(definition.block):
        width = max(_picture(definition, step).width for step in layer) + _GAP_X
        if parts[-1] and used + width > ROW_WIDTH_MAX:
            parts.append([])
            used = 0.0
        parts[-1].append(layer)
        used += width
    return parts


@dataclass(frozen=True, slots=True)
class _Lane:
    """The room that an arrow between two steps takes in a layer between them."""

    start: str
    end: str


_Slot = Step | _Lane


def _columns(block: Block, part: Sequence[Sequence[Step]]) -> list[list[_Slot]]:
    """The layers, with room in them for the arrows that only pass."""
    columns: list[list[_Slot]] = [list(layer) for layer in part]
    at = {step.name: index for index, layer in enumerate(part) for step in layer}
    for step in (step for layer in part for step in layer):
        for other in direct(block, step):
            between = range(at.get(other, at[step.name]) + 1, at[step.name])
            for index in between:
                names = [each.name for each in part[at[other]]]
                is_above = names.index(other) < len(names) / 2 - 0.5
                columns[index].insert(0 if is_above else len(columns[index]), _Lane(other, step.name))
    return columns


def _row(definition: Definition, block: Block, part: Sequence[Sequence[Step]]) -> _Picture:
    """The picture of some layers of a block, side by side, with the arrows between their steps."""
    columns = [
        [(slot, _picture(definition, slot) if isinstance(slot, Step) else _Picture()) for slot in column]
        for column in _columns(block, part)
    ]
    heights = [sum(inner.height for _, inner in column) + _GAP_Y * (len(column) - 1) for column in columns]
    row = _Picture(height=max(heights))
    ends: dict[_Slot | str, tuple[float, float, float]] = {}
    x = 0.0
    for column, height in zip(columns, heights, strict=True):
        width = max(inner.width for _, inner in column)
        y = (max(heights) - height) / 2
        for slot, inner in column:
            is_step = isinstance(slot, Step)
            left, right = (
                (x + (width - inner.width) / 2, x + (width + inner.width) / 2) if is_step else (x, x + width)
            )
            row.put(inner, left, y)
            ends[slot.name if isinstance(slot, Step) else slot] = (left, right, y + inner.height / 2)
            y += inner.height + _GAP_Y
        x += width + _GAP_X
    row.width = x - _GAP_X
    lanes = [slot for column in columns for slot, _ in column if isinstance(slot, _Lane)]
    steps = [slot for column in columns for slot, _ in column if isinstance(slot, Step)]
    for step in steps:
        row.arrows += [_way(other, step.name, lanes, ends) for other in direct(block, step) if other in ends]
        row.back += [
            _way(other, step.name, lanes, ends) for other in _undone_next(definition, block, steps, step)
        ]
    return row


def _way(
    start: str, end: str, lanes: Sequence[_Lane], ends: dict[_Slot | str, tuple[float, float, float]]
) -> _Arrow:
    points: list[_Point] = [(ends[start][1], ends[start][2])]
    for lane in lanes:
        if (lane.start, lane.end) == (start, end):
            left, right, y = ends[lane]
            points += [(left, y), (right, y)]
    return _Arrow((*points, (ends[end][0], ends[end][2])))


def _undone_next(definition: Definition, block: Block, steps: Sequence[Step], step: Step) -> Iterator[str]:
    """The steps that are undone right after the given step. Steps with nothing to undo are skipped."""
    shown = [each.name for each in steps if _has_way_back(definition, each)]
    if step.name not in shown:
        return
    before = [name for name in shown if name in block.dependencies[step.name]]
    for name in before:
        if not any(name in block.dependencies[other] for other in before):
            yield name


def _has_way_back(definition: Definition, step: Step) -> bool:
    return any(_undo_class(definition, each) for each in _inside(step))


def _picture(definition: Definition, step: Step) -> _Picture:
    """The picture of a step, with the blocks that it runs."""
    if not step.blocks:
        labels = (step_label(step), f"undo {step.name}" if step.compensation else "")
        small = (_called(step.action), _called(step.compensation))
        width = max(
            *(len(_short(label)) * _CHARACTER for label in labels),
            *(len(_short(label)) * _SMALL_CHARACTER for label in small),
        )
        return _Picture(width + 22, _BOX_HEIGHT, [_Box(step, 0.0, 0.0, width + 22)])
    picture = _Picture()
    headings: list[tuple[str, float]] = [(_frame_title(step), 15.0)]
    y = _HEADING + 4
    for heading, block in block_parts(step):
        if heading:
            headings.append((_short(heading, 60), y + 12))
            y += _HEADING
        inner = _row(definition, block, layers(block))
        picture.put(inner, _PAD, y)
        y += inner.height + _GAP_Y
    widest = max(len(text) * _SMALL_CHARACTER for text, _ in headings)
    picture.width, picture.height = max(picture.width + _PAD, widest + 2 * _PAD), y
    picture.frames.insert(0, _Frame(step, 0.0, 0.0, picture.width, y, tuple(headings)))
    return picture


def _frame_title(step: Step) -> str:
    return _short(f"{step.name}: {block_label(step)}", 60)


def _called(action: object) -> str:
    """The participant of a call, in short; empty for a step that makes no call."""
    if isinstance(action, Operation) and not action.is_child:
        return f"{action.participant} {action.method.rpartition('/')[2]}"
    return ""


def _short(text: str, limit: int = _LABEL_MAX) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


# What is drawn there.


def _forward_lane(definition: Definition, row: _Picture, y: float) -> Iterator[str]:
    yield _text(_MARGIN, y + row.height / 2 + 4, "FORWARD", "lane")
    dx = _MARGIN + _LANE_NAME
    for frame in row.frames:
        yield from _drawn_frame(frame.moved(dx, y), is_back=False)
    for arrow in row.arrows:
        yield _drawn_arrow(arrow.moved(dx, y), "go", "ghead", is_back=False)
    in_row = {box.step.name for box in row.boxes} | {frame.step.name for frame in row.frames}
    for box in row.boxes:
        at = box.moved(dx, y)
        if earlier := [other for other in box.step.after if other not in in_row]:
            yield _text(at.x, at.y - 5, _short(f"after {', '.join(earlier)}"), "small")
        kind = "pivot" if box.step.is_pivot else "step" if isinstance(box.step.action, Operation) else "wait"
        yield from _drawn_box(at, kind, _short(step_label(box.step)), _short(_called(box.step.action)))


def _undo_lane(definition: Definition, row: _Picture, y: float) -> Iterator[str]:
    yield _text(_MARGIN, y + row.height / 2 + 4, "UNDO", "lane")
    dx = _MARGIN + _LANE_NAME
    shown = {box.step.name: _undo_class(definition, box.step) for box in row.boxes}
    for frame in row.frames:
        if _has_way_back(definition, frame.step):
            yield from _drawn_frame(frame.moved(dx, y), is_back=True)
    for arrow in row.back:
        yield _drawn_arrow(arrow.moved(dx, y), "back", "bhead", is_back=True)
    for box in row.boxes:
        kind = shown[box.step.name]
        if kind == "undo":
            called = _short(_called(box.step.compensation))
            yield from _drawn_box(box.moved(dx, y), kind, _short(f"undo {box.step.name}"), called)
        elif kind:
            yield from _drawn_box(box.moved(dx, y), kind, _short(box.step.name), "cannot be undone")


def _undo_class(definition: Definition, step: Step) -> str:
    """The class of the step's box on the way back; empty if the way back does not show the step."""
    if step.compensation is not None:
        return "undo"
    is_late = step.is_pivot or definition.is_after_pivot(step.name)
    return "stays" if step.is_irreversible and not is_late else ""


def _inside(step: Step) -> Iterator[Step]:
    yield step
    for block in step.blocks:
        for inner in block.steps:
            yield from _inside(inner)


def _drawn_box(box: _Box, kind: str, label: str, below: str) -> Iterator[str]:
    middle = box.x + box.width / 2
    yield (
        f'<rect class="{kind}" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{_BOX_HEIGHT:g}" rx="6"/>'
    )
    yield _text(middle, box.y + (19 if below else 27), label, "", anchor="middle")
    if below:
        yield _text(middle, box.y + 35, below, "small", anchor="middle")


def _drawn_frame(frame: _Frame, *, is_back: bool) -> Iterator[str]:
    yield (
        f'<rect class="frame" x="{frame.x:g}" y="{frame.y:g}" width="{frame.width:g}" height="{frame.height:g}" rx="8"/>'
    )
    for number, (text, below) in enumerate(frame.headings):
        shown = f"undo {frame.step.name}" if is_back and not number else text
        yield _text(frame.x + _PAD, frame.y + below, shown, "small")


def _drawn_arrow(arrow: _Arrow, kind: str, head: str, *, is_back: bool) -> str:
    points = arrow.points[::-1] if is_back else arrow.points
    path = f"M{points[0][0]:g} {points[0][1]:g}"
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        bend = (x2 - x1) / 2
        path += f" C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    return f'<path class="{kind}" d="{path}" marker-end="url(#{head})"/>'


def _turn(row: _Picture, following: _Picture, y: float, bottom: float) -> str:
    """The way from the end of a row to the beginning of the next row."""
    x1, x2 = _MARGIN + _LANE_NAME + row.width, _MARGIN + _LANE_NAME
    y1, between, y2 = y + row.height / 2, bottom + _ROW_GAP / 2, bottom + _ROW_GAP + following.height / 2
    path = f"M{x1:g} {y1:g} h{_MARGIN / 2:g} V{between:g} H{x2 - _MARGIN:g} V{y2:g} h{_MARGIN:g}"
    return f'<path class="go" stroke-dasharray="4 4" d="{path}" marker-end="url(#ghead)"/>'


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
