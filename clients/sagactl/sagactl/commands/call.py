"""`sagactl call`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sagactl.completing import complete_methods
from sagactl.endings import WrongUsage
from sagactl.inputs import pairs_of, requests_from
from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.showing.formats import yaml_text
from sagactl.spans import seconds_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor


@click.command(cls=Asking)
@click.argument("method", shell_complete=complete_methods)
@click.argument("request", nargs=-1)
@click.option(
    "--set",
    "assigned",
    metavar="FIELD=VALUE",
    multiple=True,
    help="A field of the request; may be repeated. The value is JSON, or else a text.",
)
@click.option("--defaults", is_flag=True, help="Show fields that are empty, too.")
@click.option("--for", "span", metavar="SPAN", help="How long a stream may go on. [default: no limit]")
@pass_invocation
def call(
    invocation: Invocation,
    method: str,
    request: tuple[str, ...],
    assigned: tuple[str, ...],
    defaults: bool,
    span: str | None,
) -> None:
    """Call any METHOD of the server: `saga.v1.SagaService/GetSaga`, or `GetSaga` where only one method has that name.

    REQUEST is JSON or YAML, `@FILE`, or `-` for standard input. A method that takes a stream takes several requests, and
    reads `-` as it comes: each line, or each document. What nobody here knows is shown all the same: an unknown field as
    `?NUMBER`, an unknown value of an enum as its number.

      sagactl call GetSaga '{"start_key": "order-1042"}'
      sagactl call SagaService/ListSagas --set page_size=5 -o yaml
    """  # fmt: skip
    server = invocation.server
    found = server.described(lambda contract: contract.method(method))
    given = [*request] or ([] if found.client_streaming and not assigned else ["{}"])
    requests = ({**each, **_assigned(assigned)} for each in requests_from(given))
    if found.client_streaming or found.server_streaming:
        seconds = None if span is None else _seconds(span)
        for answer in server.stream(found, requests, seconds=seconds, defaults=defaults):
            invocation.output.item(answer, lambda answer=answer: yaml_text(answer))  # type: ignore[misc]  # the default binds it now
        return
    answer = server.call_method(found, _only(list(requests), found), defaults=defaults)
    invocation.output.one(answer, lambda: yaml_text(answer))


def _assigned(written: tuple[str, ...]) -> dict[str, Any]:
    import json  # noqa: PLC0415

    found: dict[str, Any] = {}
    for name, text in pairs_of(written, "--set").items():
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


def _seconds(span: str) -> float:
    try:
        return seconds_of(span)
    except ValueError as error:
        raise WrongUsage(f"--for: {error}") from None


def _only(requests: list[dict[str, Any]], method: MethodDescriptor) -> dict[str, Any]:
    if len(requests) != 1:
        raise WrongUsage(f"{method.name} takes one request, and was given {len(requests)}")
    return requests[0]
