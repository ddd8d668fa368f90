"""Writes docs/sagactl.md and the manual page of sagactl from its commands, as the program itself knows them.

python -m tools.document_sagactl            write them
python -m tools.document_sagactl --check    exit 1 when what is committed is not what would be written
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from sagactl import __version__
from sagactl.connecting.connection import variable_of
from sagactl.connecting.contexts import FIELDS
from sagactl.endings import MEANINGS
from sagactl.invocation import shared_options
from sagactl.program import program
from tools.sagactl_screens import screens

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "sagactl.md"
MANUAL = ROOT / "clients" / "sagactl" / "man" / "sagactl.1"

OPENING = """# sagactl

The operator's command line. It speaks gRPC and learns from the server's reflection what the server can do, so every
method of a newer server is there at once, and the contract's comments are its help. This page is written by `make
generate` from the program itself.

    pipx install sagactl          # from a checkout: pip install ./clients/sagactl
    sagactl context set here --address localhost:7242
    sagactl doctor

- [Connecting](#connecting), [output](#output), [exit codes](#exit-codes), [in scripts](#in-scripts), [completion](#completion)
- [Screens](#screens), [commands](#commands)
"""

CONNECTING = """## Connecting

Each setting comes from its flag, else from its variable, else from the context, else from its default. A context is a
named connection in `~/.config/sagactl/contexts.yaml`, or in the file that `SAGACTL_CONFIG` names; `sagactl context
set NAME` makes one of the flags beside it. An address that is given by flag or variable leaves the current context
out, so that its token goes nowhere else.
"""

AFTER_CONNECTING = """
A server without reflection needs `--descriptor-set`. A call is repeated within `--timeout` if the server asks for it,
or if the call only reads and was cut off. If the server refuses the token, `--token-command` runs again, once.
"""

OUTPUT = """## Output

`table` and `wide` are for people and may change. `json`, `jsonl` and `yaml` are for programs: their fields are those
of the contract, and `sagactl schema COMMAND` prints the JSON Schema. Lists for people end after 100 rows and say so;
`--limit` and `--all` change that. Lists for programs are complete and written as they come. `--fields
saga_id,failure.code` picks fields in every format.

Nothing that a server sends is dropped: a field that its own descriptors do not know is shown as `?NUMBER`, a value of
an enum as its number, and `sagas show` lists the fields that its drawing does not have. `COMPENSATED` is never green.
Colours are used on a terminal, unless `NO_COLOR` is set; drawings are ASCII where the locale is not UTF-8, or with
`--ascii`.
"""

SCRIPTS = """## In scripts

With a format for programs, an error is one line of JSON on standard error: `{"error": {"kind": "not_found", "status":
"NOT_FOUND", "reason": "NO_SUCH_SAGA", ...}}`.

Without a terminal nothing is ever asked: a command that needs a yes ends with 2 and names `--yes`. `--dry-run` shows
what would be done. A reader that goes away, such as `head`, ends the program quietly.

```sh
saga=$(sagactl sagas start order --key order-1042 --input @order.json --fields saga.saga_id)
sagactl wait "$saga" --within 10m || sagactl sagas show "$saga"
sagactl apply -f definitions/ --prune --yes --reason "release 12"
sagactl sagas list -s needs_attention -o jsonl --fields saga_id,failure.code
```
"""

SIZE = """## Size and speed

The wheel has 115 KB; with what it needs, 45 MB, of which gRPC is 19. A command line takes 0.08 s of one processor before it
does anything (`--help`), and 0.2 s with a list or a drawing from a server, most of that for importing gRPC (Python 3.11, two
shared cores).
"""

COMPLETION = """## Completion

`source <(sagactl completion bash)`, the same for zsh, and `sagactl completion fish | source`. Identities,
definitions, participants, labels and methods come from the server. The shell never waits longer than an eighth of a
second for them: they are kept for 15 s, and fetched beside it.
"""


@dataclass(frozen=True, slots=True)
class Described:
    """A command as its help has it. `flags` are pairs of a flag with its value, and its text."""

    path: str
    usage: str
    text: str
    flags: tuple[tuple[str, str], ...]


def commands(group: click.Group, path: str = "sagactl") -> Iterator[Described]:
    """Every command, in the order of the help."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield _described(found, f"{path} {name}")
        if isinstance(found, click.Group):
            yield from commands(found, f"{path} {name}")


def _described(command: click.Command, path: str) -> Described:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    return Described(
        path, f"{path} {usage}", _paragraphs(command.help or ""), tuple(_flags(command, context))
    )


def _flags(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            yield record


def _paragraphs(help_text: str) -> str:
    """The text of a help with a line for each paragraph; examples, which are indented, stay as they are."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(help_text))
    return "\n\n".join(each if each.startswith("  ") else " ".join(each.split()) for each in paragraphs)


def page() -> str:
    """docs/sagactl.md."""
    parts = [
        OPENING,
        CONNECTING,
        "\n".join(["| setting | flag | variable | meaning |", "|---|---|---|---|", *_settings()]),
        AFTER_CONNECTING,
        OUTPUT,
        "## Exit codes\n\n" + "\n".join(["| code | means |", "|---|---|", *_codes()]) + "\n",
        SCRIPTS,
        COMPLETION,
        SIZE,
        "## Screens\n\nDrawn by the program from one story.\n\n" + "\n".join(_screens()),
        "## Commands\n\nEvery command takes these flags, before or after its name:\n\n"
        + _flag_table(_shared()),
        *(_section(each) for each in commands(program)),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _settings() -> Iterator[str]:
    flags = {option.name: option.opts[0] for option in shared_options(are_hidden=False)}
    for name, text in FIELDS.items():
        flag = f"`{flags[name]}`" if name in flags else ""
        yield f"| `{name}` | {flag} | `{variable_of(name)}` | {text} |"


def _codes() -> Iterator[str]:
    for ending, text in MEANINGS.items():
        yield f"| {int(ending)} | {text} |"


def _screens() -> Iterator[str]:
    for line, screen in screens():
        yield f"```text\n$ {line}\n{screen}\n```\n"


def _shared() -> tuple[tuple[str, str], ...]:
    context = click.Context(program)
    records = (option.get_help_record(context) for option in shared_options(are_hidden=False))
    return tuple(record for record in records if record is not None)


def _flag_table(flags: tuple[tuple[str, str], ...]) -> str:
    rows = [f"| `{_cell(flag)}` | {_cell(text)} |" for flag, text in flags]
    return "\n".join(["| flag | meaning |", "|---|---|", *rows]) + "\n" if rows else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _section(described: Described) -> str:
    flags = tuple(each for each in described.flags if not each[0].startswith("-h"))
    table = f"\n{_flag_table(flags)}" if flags else ""
    return f"### `{described.path}`\n\n    {described.usage}\n\n{described.text}\n{table}"


def manual() -> str:
    """The manual page, in the language of man(7)."""
    lines = [
        f'.TH SAGACTL 1 "" "sagactl {__version__}" "Saga Coordinator"',
        ".SH NAME",
        "sagactl \\- the operator's command line of Saga Coordinator",
        ".SH SYNOPSIS",
        ".B sagactl",
        "[OPTIONS] COMMAND [ARGS]...",
        ".SH DESCRIPTION",
        *_roff(_paragraphs(program.help or "")),
        ".SH OPTIONS",
        *_roff_flags(_shared()),
        ".SH COMMANDS",
    ]
    for each in commands(program):
        lines += [f".SS {_escaped(each.usage)}", *_roff(each.text), *_roff_flags(each.flags)]
    lines.append(".SH EXIT STATUS")
    for ending, text in MEANINGS.items():
        lines += [".TP", f".B {int(ending)}", _escaped(text)]
    lines.append(".SH ENVIRONMENT")
    for name, text in FIELDS.items():
        lines += [".TP", f".B {variable_of(name)}", _escaped(text)]
    lines += [
        ".TP",
        ".B SAGACTL_CONTEXT",
        "the context to use",
        ".TP",
        ".B SAGACTL_CONFIG",
        "the file of the contexts",
    ]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("  "):
            yield from (".PP", ".nf", *map(_escaped, paragraph.splitlines()), ".fi")
        else:
            yield from (".PP", _escaped(paragraph))


def _roff_flags(flags: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for flag, text in flags:
        yield from (".TP", f".B {_escaped(flag)}", _escaped(" ".join(text.split())))


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.document_sagactl")
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    stale = 0
    for path, text in ((PAGE, page()), (MANUAL, manual())):
        if is_check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            print(f"{path.relative_to(ROOT)} is not fresh: run `make generate`")
            stale = 1
        elif not is_check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
