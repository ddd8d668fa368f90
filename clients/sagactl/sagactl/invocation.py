"""What the flags of a command line add up to: the connection, the output, and how to ask a person."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from sagactl.endings import Declined, Problem, WrongUsage
from sagactl.interrupts import ended_quietly_by_ctrl_c
from sagactl.showing.formats import FORMATS, Output
from sagactl.showing.terminal import Terminal, clean, may_ask, terminal_of

if TYPE_CHECKING:
    from sagactl.asking import Server
    from sagactl.connecting.connection import Connection

_Function = TypeVar("_Function", bound=Callable[..., Any])

NAME = "sagactl"


@dataclass
class Invocation:
    """One run of the program. `flags` has what was given of the flags that every command takes, by their names."""

    flags: dict[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @cached_property
    def connection(self) -> Connection:
        """The connection. Raises WrongUsage, NotFound."""
        from sagactl.connecting.connection import connection_of  # noqa: PLC0415

        return connection_of(self.flags, self.environment)

    @cached_property
    def server(self) -> Server:
        """The server. gRPC is imported here, since many command lines never need it. Raises WrongUsage, NotFound."""
        with ended_quietly_by_ctrl_c():
            from sagactl.asking import Server  # noqa: PLC0415

        connection = self.connection
        if connection.token and not connection.is_tls and not connection.is_local:
            warn("a token goes over the network in plain text; say --tls")
        return Server(connection)

    @cached_property
    def terminal(self) -> Terminal:
        """What standard output can show."""
        colour = self.flags.get("color", "auto")
        return terminal_of(self.environment, colour=colour, is_ascii=bool(self.flags.get("ascii")))

    @cached_property
    def output(self) -> Output:
        """Where results go."""
        fields = tuple(part.strip() for part in str(self.flags.get("fields", "")).split(",") if part.strip())
        return Output(self.flags.get("output", "table"), fields, self.terminal)

    @property
    def is_for_programs(self) -> bool:
        """Whether a program reads the output."""
        return self.flags.get("output") in ("json", "jsonl", "yaml")

    @property
    def requested_by(self) -> str:
        """Who asks, for the record of acts: as the connection says, else the user of this machine."""
        if self.connection.requested_by:
            return self.connection.requested_by
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # no such user, as in a container
            return NAME

    def identity_of(self, saga: str) -> str:
        """A saga's identity, also where it is named by its start key: `key:START_KEY`. Raises Problem."""
        if not saga.startswith("key:"):
            return saga
        request = {"start_key": saga.removeprefix("key:")}
        return str(self.server.call("saga.v1.SagaService/GetSaga", request)["saga"]["saga_id"])

    def confirm(self, plan: str, *, is_sure: bool) -> None:
        """Shows the plan on standard error and asks. Raises WrongUsage without a terminal, and Declined for no."""
        if is_sure:
            return
        if not may_ask():
            raise WrongUsage(
                "this needs a yes, and there is no terminal to ask at; say --yes, or look first with --dry-run"
            )
        click.echo(plan, err=True)
        if not click.confirm("Go on?", err=True):
            raise Declined("nothing was done")


def warn(text: str) -> None:
    """Tells something on standard error that does not end the command."""
    click.echo(f"warning: {clean(text)}", err=True)


def note(text: str) -> None:
    """Tells a person something beside the result. Only a terminal shows it."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(text, err=True)


def _kept(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Puts a flag that was given where the command finds it: flags may stand before and after the command's name."""
    if value not in (None, (), "") and ctx.get_parameter_source(str(parameter.name)) is not None:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is click.core.ParameterSource.COMMANDLINE:
            invocation_of(ctx).flags[str(parameter.name)] = value
    return value


def invocation_of(ctx: click.Context) -> Invocation:
    """The run that the context belongs to."""
    found = ctx.ensure_object(Invocation)
    assert isinstance(found, Invocation)
    return found


def complete_contexts(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """The names of contexts, for shells; none where they cannot be read."""
    from sagactl.connecting.contexts import read_contexts  # noqa: PLC0415  # only a shell asks

    try:
        return [name for name in read_contexts(os.environ).named if name.startswith(incomplete)]
    except Problem:
        return []


class _Flag(NamedTuple):
    """A flag that every command takes."""

    names: tuple[str, ...]
    text: str
    more: Mapping[str, Any]


def _flag(*names: str, text: str, **more: Any) -> _Flag:
    return _Flag(names, text, more)


_FLAGS: tuple[_Flag, ...] = (
    _flag(
        "--context",
        metavar="NAME",
        shell_complete=complete_contexts,
        text="The context to use, instead of the current one. [env: SAGACTL_CONTEXT]",
    ),
    _flag(
        "--address",
        metavar="ADDRESS",
        text="Where the server is: HOST:PORT or unix:PATH. [env: SAGACTL_ADDRESS; default: 127.0.0.1:7242]",
    ),
    _flag(
        "--tls/--plaintext",
        "tls",
        default=None,
        text="Whether to speak TLS. [env: SAGACTL_TLS; default: if a certificate is named]",
    ),
    _flag(
        "--ca-file",
        metavar="PEM",
        text="The roots to trust, if not those of the machine. [env: SAGACTL_CA_FILE]",
    ),
    _flag("--cert-file", metavar="PEM", text="The client certificate. [env: SAGACTL_CERT_FILE]"),
    _flag("--key-file", metavar="PEM", text="Its key. [env: SAGACTL_KEY_FILE]"),
    _flag(
        "--server-name",
        metavar="NAME",
        text="The name in the server's certificate, if it is not the address. [env: SAGACTL_SERVER_NAME]",
    ),
    _flag(
        "--token-file",
        metavar="FILE",
        text="A file with a bearer token. SAGACTL_TOKEN has a token itself. [env: SAGACTL_TOKEN_FILE]",
    ),
    _flag(
        "--token-command",
        metavar="COMMAND",
        text="A command that prints a bearer token. It runs again when the server takes the token no more. "
        "[env: SAGACTL_TOKEN_COMMAND]",
    ),
    _flag(
        "--namespace",
        metavar="NAME",
        text="The namespace that the call is about. [env: SAGACTL_NAMESPACE]",
    ),
    _flag(
        "--header",
        "-H",
        "headers",
        metavar="NAME:VALUE",
        multiple=True,
        text="Metadata that goes along. May be repeated.",
    ),
    _flag(
        "--timeout",
        metavar="SPAN",
        text="How long a call may take, repetitions included, such as 500ms or 1m. [env: SAGACTL_TIMEOUT; default: 10s]",
    ),
    _flag(
        "--descriptor-set",
        metavar="FILE",
        text="The contract, for a server without reflection: a FileDescriptorSet. [env: SAGACTL_DESCRIPTOR_SET]",
    ),
    _flag(
        "--requested-by",
        metavar="NAME",
        text="Who asks, for the record of acts. [env: SAGACTL_REQUESTED_BY; default: your user name]",
    ),
    _flag(
        "--output",
        "-o",
        type=click.Choice(FORMATS),
        text="table and wide are for people. json, jsonl and yaml are for programs, and keep their form. "
        "[default: table]",
    ),
    _flag(
        "--fields",
        metavar="PATHS",
        text="Only these fields, separated by commas, such as saga_id,failure.code.",
    ),
    _flag(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        text="When to use colours. [default: auto: on a terminal, unless NO_COLOR is set]",
    ),
    _flag("--ascii", is_flag=True, text="Draw without Unicode."),
)


def shared_options(*, are_hidden: bool) -> list[click.Parameter]:
    """The flags that every command takes. The program's own help shows them; the commands' help does not repeat them."""
    return [
        click.Option(
            list(flag.names),
            help=flag.text,
            expose_value=False,
            callback=_kept,
            hidden=are_hidden,
            **flag.more,
        )
        for flag in _FLAGS
    ]


class Asking(click.Command):
    """A command that asks a server: it takes the flags that every command takes, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shared_options(are_hidden=True)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(
            f"`{NAME} --help` lists the flags that every command takes: connection, output, --timeout."
        )


def pass_invocation(function: _Function) -> _Function:
    """Gives the command the invocation as its first argument."""

    @click.pass_context
    def called(ctx: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        return ctx.invoke(function, invocation_of(ctx), *args, **kwargs)

    return update_wrapper(called, function)  # type: ignore[return-value]  # the context in front is click's
