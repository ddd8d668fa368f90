"""`saga-coordinator definition explain|lint|simulate`: what a definition will do, found out before it runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from saga_coordinator.advice.drawing import draw_svg
from saga_coordinator.advice.lint import RULES, Smell
from saga_coordinator.advice.lint import lint as find_smells
from saga_coordinator.advice.text import drawing
from saga_coordinator.advice.words import in_words
from saga_coordinator.cli.definition_files import read_definitions
from saga_coordinator.cli.options import Failure
from saga_coordinator.config import Document, FileFaulty, read_documents, read_json
from saga_coordinator.rehearsal.answers import Answers, make_answers
from saga_coordinator.rehearsal.report import report_json, report_lines
from saga_coordinator.rehearsal.scenarios import simulate as rehearse_all
from saga_coordinator.rehearsal.schema import sketch_of
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import parse_definition

SCENARIOS_DEFAULT = 2000
_COLUMNS_MIN = 40
"""Narrower terminals get the lines whole."""
_PLAIN = str.maketrans("─▶◀│┌┐└┘├┤◆", "-><|++++++*")

_file = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))


@dataclass(frozen=True, slots=True)
class _Read:
    """A valid definition, and the file that it was read from."""

    document: Document
    definition: Definition


def _read(file: Path) -> list[_Read]:
    """Reads every definition of the file. Raises Failure with all faults of all definitions."""
    return [
        _Read(valid.document, parse_definition(valid.document.content)) for valid in read_definitions([file])
    ]


@click.command(short_help="Draw FILE's saga and say its policies in words.")
@_file
@click.option(
    "--svg",
    "picture",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Write the drawing as SVG, too; `-`: print only that.",
)
def explain(file: Path, picture: Path | None) -> None:
    """Draw the way forward and the way back of the definitions in FILE, and say in words what each step's policy comes to.

    `◆` marks the pivot, `?` a step that a condition may skip.
    """
    found = _read(file)
    if picture is not None:
        if len(found) != 1:
            raise click.UsageError(f"--svg: {file} holds {len(found)} definitions; a picture shows one")
        _write(picture, draw_svg(found[0].definition))
    if str(picture) == "-":
        return
    for number, read in enumerate(found):
        lines = ("", *drawing(read.definition), "", *in_words(read.definition))
        _draw("\n".join([*([""] if number else []), read.definition.name, *lines]))


def _draw(text: str) -> None:
    """Prints it, with plain characters where the terminal has no others."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode("ascii", "replace").decode()
    for line in text.split("\n"):
        click.echo(_fitted(line))


def _fitted(line: str) -> str:
    """The line, broken at spaces where it is longer than the terminal is wide; what is no terminal gets it whole."""
    columns = (
        shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() or "COLUMNS" in os.environ else 0
    )
    if not 0 < _COLUMNS_MIN <= columns < len(line):
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


@click.command(short_help="Rehearse every failure that FILE's saga can meet.")
@_file
@click.option("--pairs", "in_pairs", is_flag=True, help="Rehearse every pair of failures, too.")
@click.option(
    "--input", "written_input", metavar="FILE|JSON", help="The saga's input; without it, one is made up."
)
@click.option(
    "--output-of",
    "written_outputs",
    metavar="STEP=JSON",
    multiple=True,
    help="What a step returns, or the payload of its event; without it, something is made up.",
)
@click.option(
    "--limit", default=SCENARIOS_DEFAULT, show_default=True, type=click.IntRange(1), help="Scenarios at most."
)
@click.option(
    "--json",
    "report_file",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Write a report for programs; `-`: print it.",
)
def simulate(
    file: Path,
    in_pairs: bool,
    written_input: str | None,
    written_outputs: tuple[str, ...],
    limit: int,
    report_file: Path | None,
) -> None:
    """Rehearse every failure of every step of the definitions in FILE on simulated time, with the rules of the coordinator.

    Tells for each what would be called in which order, how the saga would end, and what would remain. Exits with 1 when a
    promise would be broken or an expression would fail.
    """
    reports: list[dict[str, Any]] = []
    is_broken = False
    is_printed = report_file is not None and str(report_file) == "-"
    for read in _read(file):
        given = _value(written_input, "--input") if written_input is not None else None
        answers, notes = _answers(read, given, _outputs(written_outputs, read.definition))
        simulation = rehearse_all(
            read.definition, answers, in_pairs=in_pairs, limit=limit, is_forcing=written_input is None
        )
        is_broken |= any(story.is_broken for story in simulation.stories)
        reports.append(
            report_json(read.definition.name, simulation, answers, is_made_up=written_input is None)
        )
        if not is_printed:
            for line in (*notes, *report_lines(simulation, in_pairs=in_pairs)):
                click.echo(_fitted(line))
    if report_file is not None:
        _write(report_file, json.dumps(reports, indent=2, ensure_ascii=False) + "\n")
    if is_broken:
        raise Failure(f"{file}: promises would be broken or expressions would fail; see above")


def _answers(read: _Read, given: Any, outputs: dict[str, Any]) -> tuple[Answers, list[str]]:
    """The answers of the rehearsals' participants, and notes on them for the user."""
    definition = read.definition
    schema = read.document.content.get("input_schema", read.document.content.get("inputSchema"))
    sketch = None if schema is None or given is not None else sketch_of(schema)
    answers = make_answers(definition, given_input=given, sketch=sketch, outputs=outputs)
    faults = definition.input_schema.faults(answers.input.value()) if definition.input_schema else []
    notes = [f"{definition.name}: {len(definition.loops_around)} steps"]
    if given is not None and faults:
        raise Failure(*(f"--input: {fault}" for fault in faults))
    if given is None:
        how = "from input_schema" if sketch is not None else "from what expressions read"
        notes.append(f"Input, made up {how}: {_short(answers.input.value())}")
        notes += [f"It does not fit the input_schema, so give an --input: {fault}" for fault in faults]
    notes += [
        f"No values were found on which `{source}` can be evaluated: give --input or --output-of."
        for source in answers.unsolved
    ]
    return answers, [*notes, ""]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _outputs(written: Sequence[str], definition: Definition) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    for each in written:
        step, equals, text = each.partition("=")
        if not equals:
            raise click.UsageError(f"--output-of {each}: write STEP=JSON")
        if step not in definition.loops_around:
            raise click.UsageError(
                f"--output-of {each}: no step is named `{step}`; there are: {', '.join(definition.loops_around)}"
            )
        outputs[step] = _value(text, f"--output-of {step}")
    return outputs


def _value(written: str, flag: str) -> Any:
    """The JSON that is written, or what is in the file of that name."""
    try:
        json.loads(written, parse_int=str)  # whatever its numbers are: what is wrong with them is said below
    except ValueError as error:
        if written.lstrip().startswith(("{", "[", '"')):
            raise click.UsageError(f"{flag} is not JSON: {error}") from None
    else:
        try:
            return read_json(written, flag)
        except FileFaulty as error:
            raise click.UsageError(str(error)) from None
    try:
        return read_documents(Path(written))[0].content
    except FileFaulty as error:
        raise click.UsageError(f"{flag} is neither JSON nor a file that can be read: {error}") from None


def _write(file: Path, text: str) -> None:
    if str(file) == "-":
        click.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")


@click.command(short_help="Find what the author of FILE's saga may not have meant.")
@_file
@click.option("--strict", "is_strict", is_flag=True, help="Exit with 1 if there is anything to mend.")
@click.option(
    "--ignore",
    "ignored",
    metavar="RULE",
    multiple=True,
    type=click.Choice(tuple(RULES)),
    help="Leave that rule out.",
)
@click.option(
    "--format",
    "form",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How to tell it.",
)
def lint(file: Path, is_strict: bool, ignored: tuple[str, ...], form: str) -> None:
    """Tell what is allowed in the definitions in FILE and yet seldom meant: why, and how to mend it."""
    found = [
        (read, smell)
        for read in _read(file)
        for smell in find_smells(read.definition, read.document.content)
        if smell.rule not in ignored
    ]
    if form == "json":
        click.echo(
            json.dumps([_smell_json(read, smell) for read, smell in found], indent=2, ensure_ascii=False)
        )
    else:
        for read, smell in found:
            click.echo(f"{read.document.locate(smell.path)}: {smell}")
        if not found:
            click.echo(f"{file}: nothing to mend")
    if found and is_strict:
        raise Failure(f"{file}: {len(found)} to mend, or to leave out by --ignore")


def _smell_json(read: _Read, smell: Smell) -> dict[str, Any]:
    place = read.document.locate(smell.path)
    return {"definition": read.definition.name, "place": place, **smell._asdict()}


COMMANDS = (explain, lint, simulate)
