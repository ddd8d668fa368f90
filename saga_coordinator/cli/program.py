"""The group of commands. Each command ends quietly, or with one line for each error."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import click

from saga_coordinator import __version__
from saga_coordinator.cli.options import Failure
from saga_coordinator.config import FileFaulty, SettingsFaulty
from saga_coordinator.saga.words.errors import InvalidRequest, SagaError

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

UNREAD = 141
"""The exit code when the output's reader is gone, as in `| head -1`: 128 + SIGPIPE."""

_OUTPUT_LOST = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

MODULES: Mapping[str, str] = {
    "definition": "definitions",
    "demo": "serving",
    "dev": "serving",
    "health": "health",
    "migrate": "serving",
    "postgres": "serving",
    "serve": "serving",
    "version": "program",
}
"""The module of each command. Only the needed module is imported, because containers ask for the health every few seconds."""


class _Unread(Exception):
    """The reader of the pipe on standard output is gone."""


@contextlib.contextmanager
def _told_of_closed_pipe() -> Iterator[None]:
    """Tells of a closed pipe by `_Unread`. click itself would end the program with 1, as if something had failed."""
    try:
        yield
    except BrokenPipeError:
        raise _Unread from None


class _Commands(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _told_of_closed_pipe():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _told_of_closed_pipe():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in MODULES:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=MODULES, ctx=ctx)
        module: Any = importlib.import_module(f"saga_coordinator.cli.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.command(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, message="saga-coordinator %(version)s")
def program() -> None:
    """Carries business transactions across services, remembers them in Postgres, and undoes them in reverse when a step fails."""


@click.command()
def version() -> None:
    """Print this program's version."""
    click.echo(f"saga-coordinator {__version__}")


def run() -> None:
    """Runs the command that the arguments name, and exits. 1: it failed; 2: it was called wrongly."""
    try:
        exit_code = _run()
    finally:
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)
    sys.exit(exit_code)


def _run() -> int:
    try:
        return int(program.main(prog_name="saga-coordinator", standalone_mode=False) or 0)
    except _Unread:
        return UNREAD
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        return _wrong_usage(error)
    except click.ClickException as error:
        return _fail([error.format_message()], error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Failure as failure:
        return _fail(failure.lines, failure.exit_code)
    except SettingsFaulty as error:
        return _fail(error.faults, 2)
    except InvalidRequest as error:
        return _fail([str(fault) for fault in error.faults], 1)
    except (FileFaulty, SagaError) as error:
        return _fail([str(error)], 1)
    except OSError as error:
        return _fail([_of_file(error)], 1)


def _of_file(error: OSError) -> str:
    """The message about a file or the output. Any other error of the system is a defect, and is raised again."""
    if error.errno is not None and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {os.strerror(error.errno)}"
    if error.errno in _OUTPUT_LOST:
        return f"the output cannot be written: {os.strerror(error.errno)}"
    raise error


def _wrong_usage(error: click.UsageError) -> int:
    """The usage as click shows it, and then an error line like all others."""
    hint = ""
    if error.ctx is not None:
        hint = f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n\n"
    _say(f"{hint}error: {' '.join(error.format_message().split())}")
    return error.exit_code


def _fail(lines: Sequence[str], exit_code: int) -> int:
    for line in lines:
        _say(f"error: {' '.join(line.split())}")
    return exit_code


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody is there to be told; the exit code stands
        click.echo(text, err=True)


def _let_go(stream: TextIO | None) -> None:
    """Discards what could not be written. Otherwise Python would try to write it again as it ends, print a traceback and change
    the exit code.
    """
    if stream is None:  # the program was started without it
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
