"""The program: its commands, each imported only when it is needed, and how every command line ends."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import click

from sagactl import __version__
from sagactl.endings import Ending, Problem
from sagactl.invocation import NAME, Invocation, invocation_of, shared_options

COMMANDS: Mapping[str, tuple[str, str]] = {
    "sagas": ("sagas", "List, show, watch, start and cancel sagas, and act on them."),
    "definitions": ("definitions", "The versions of definitions at the server."),
    "participants": ("participants", "Where participants are, how they are, and their breakers."),
    "events": ("events", "Publish and list events."),
    "approvals": ("approvals", "Steps that wait for a person."),
    "acts": ("acts", "What people did, and what was refused to them."),
    "groups": ("groups", "Who drives the sagas of each claim group."),
    "bulk": ("tabled", "Act on many sagas at once."),
    "stuck": ("tabled", "List sagas that do not move."),
    "ledger": ("tabled", "What a saga did, by whom it was undone, and what remains."),
    "audit": ("tabled", "What people did, and what was denied."),
    "can-i": ("tabled", "Whether you may call a method."),
    "apply": ("apply", "Make the server have what files declare."),
    "wait": ("wait", "Wait until a saga has ended or needs a person; for scripts."),
    "top": ("top", "A live screen of what the server does."),
    "health": ("health", "Whether the server, or one of its services, serves now."),
    "doctor": ("doctor", "Look for what is wrong between here and the server."),
    "call": ("call", "Call any method of the server."),
    "describe": ("describe", "Say what the contract says of a method, message or field."),
    "list-methods": ("describe", "List all methods of the server."),
    "context": ("context", "Named connections in a file."),
    "schema": ("schema", "The JSON Schema of what a command writes."),
    "completion": ("completion", "Completion for bash, zsh and fish."),
    "version": ("version", "Print the version of this program, and of the coordinators."),
}
"""The module of each command, and what its line in the help says."""


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
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sagactl.commands.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=list(COMMANDS), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, message=f"{NAME} %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """The operator's command line of Saga Coordinator.

    It learns from the server itself what the server can do. So every method of a newer server is there at once, under
    `sagactl call`, and `sagactl describe` explains every method and field.
    """
    invocation_of(ctx)


program.params += shared_options(are_hidden=False)


def main() -> None:
    """Runs the command line that the arguments say, and exits."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log would repeat our messages
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if "_SAGACTL_COMPLETE" in os.environ:
        _complete()
    try:
        ending = _run()
    finally:
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)
    sys.exit(ending)


def _complete() -> None:
    """Answers a shell that completes a line. Whatever goes wrong, the shell gets nothing, and a person sees nothing."""
    with contextlib.suppress(Exception), contextlib.redirect_stderr(None):
        program.main(prog_name=NAME, complete_var="_SAGACTL_COMPLETE")
    sys.exit(0)


def _run() -> int:
    invocation = Invocation()
    try:
        return int(program.main(prog_name=NAME, standalone_mode=False, obj=invocation) or Ending.DONE)
    except _Unread:
        return Ending.UNREAD
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        return Ending.USAGE
    except click.UsageError as error:
        return _wrong_usage(error)
    except click.ClickException as error:
        return _failed([error.format_message()], Ending.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return Ending.INTERRUPTED
    except Problem as problem:
        if invocation.is_for_programs:
            return _told_to_program(problem)
        return _failed(problem.lines, problem.ending)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) or error.filename:
            return _failed(
                [f"{error.filename or 'the output'}: {os.strerror(error.errno or 0)}"], Ending.USAGE
            )
        raise


def _wrong_usage(error: click.UsageError) -> int:
    hint = ""
    if error.ctx is not None:
        hint = f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n\n"
    _say(f"{hint}error: {' '.join(error.format_message().split())}")
    return Ending.USAGE


def _told_to_program(problem: Problem) -> int:
    """Writes the error as one line of JSON on standard error, since the output is for a program, too."""
    told = {"kind": problem.ending.name.lower(), "lines": list(problem.lines), **problem.details}
    _say(json.dumps({"error": told}, ensure_ascii=False))
    return problem.ending


def _failed(lines: Any, ending: Ending) -> int:
    from sagactl.showing.terminal import clean  # noqa: PLC0415

    for line in lines:
        _say(f"error: {clean(line)}")
    return ending


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody is there to be told; the exit code stands
        click.echo(text, err=True)


def _let_go(stream: TextIO | None) -> None:
    """Discards what could not be written. Otherwise Python would try again as it ends, and print a traceback."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
