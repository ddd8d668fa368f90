"""`sagactl context list|show|use|set|delete`."""

from __future__ import annotations

from typing import Any

import click

from sagactl.connecting.contexts import FIELDS, read_contexts, write_contexts
from sagactl.endings import NotFound, WrongUsage
from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.showing.formats import Column, yaml_text

_SECRET = "token"  # noqa: S105  # the name of the field


@click.group()
def context() -> None:
    """Named connections in a file, so that `--context production` says an address, TLS and a token at once.

    The file is what SAGACTL_CONFIG names, else ~/.config/sagactl/contexts.yaml.
    """


_name = click.argument("name")


@context.command("list", cls=Asking)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the contexts. The current one has a star."""
    contexts = read_contexts(invocation.environment)
    rows = [_shown(name, fields, contexts.current) for name, fields in contexts.named.items()]
    columns = [
        Column("", lambda row: "*" if row["is_current"] else ""),
        Column("NAME", "name"),
        Column("ADDRESS", "address"),
        Column("NAMESPACE", "namespace"),
    ]
    invocation.output.many(rows, columns)


def _shown(name: str, fields: Any, current: str) -> dict[str, Any]:
    shown = {**fields, _SECRET: "(hidden)"} if fields.get(_SECRET) else dict(fields)
    return {"name": name, "is_current": name == current, **shown}


@context.command(cls=Asking)
@click.argument("name", required=False)
@pass_invocation
def show(invocation: Invocation, name: str | None) -> None:
    """Show a context, or the current one. Its token is hidden."""
    contexts = read_contexts(invocation.environment)
    chosen = name or contexts.current
    if not chosen:
        raise NotFound("there is no current context; choose one with `sagactl context use NAME`")
    shown = _shown(chosen, contexts.get(chosen), contexts.current)
    invocation.output.one(shown, lambda: yaml_text(shown))


@context.command(cls=Asking)
@_name
@pass_invocation
def use(invocation: Invocation, name: str) -> None:
    """Make a context the current one."""
    write_contexts(read_contexts(invocation.environment).using(name))
    invocation.output.one({"current": name}, lambda: f"{name} is the current context")


@context.command("set", cls=Asking)
@_name
@click.option(
    "--token",
    metavar="TOKEN",
    help="A bearer token, which the file then holds. Better: --token-command or --token-file.",
)
@pass_invocation
def set_(invocation: Invocation, name: str, token: str | None) -> None:
    """Make a context of the flags that are given, or change one: `sagactl context set prod --address host:7242 --tls`."""
    given = {field: value for field, value in invocation.flags.items() if field in FIELDS}
    if token:
        given[_SECRET] = token
    if not given:
        raise WrongUsage(
            "say what the context is: --address, --tls, --token-command and the other flags of a connection"
        )
    contexts = read_contexts(invocation.environment)
    fields = {**contexts.named.get(name, {}), **given}
    write_contexts(contexts.put(name, fields))
    shown = _shown(name, fields, contexts.current or name)
    invocation.output.one(shown, lambda: f"{name} is kept in {contexts.path}")


@context.command(cls=Asking)
@_name
@pass_invocation
def delete(invocation: Invocation, name: str) -> None:
    """Delete a context."""
    write_contexts(read_contexts(invocation.environment).without(name))
    invocation.output.one({"deleted": name}, lambda: f"{name} is deleted")
