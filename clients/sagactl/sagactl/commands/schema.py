"""`sagactl schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sagactl.completing import complete_methods
from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.outputs import OUTPUTS, Written, own_schema
from sagactl.showing.formats import yaml_text

if TYPE_CHECKING:
    from sagactl.contract.contract import Contract


@click.command(cls=Asking)
@click.argument("command", nargs=-1, required=True, shell_complete=complete_methods)
@pass_invocation
def schema(invocation: Invocation, command: tuple[str, ...]) -> None:
    """Print the JSON Schema of what COMMAND writes with -o json, such as `sagas list`; or of the answer of a method.

    With -o jsonl and -o yaml, a list is written item by item: each fits `items` of the schema. What follows something as it
    happens, such as `sagas watch`, writes an object a line.
    """
    name = " ".join(command)
    written = OUTPUTS.get(name)
    if written is not None and not written.message:
        said = _many(own_schema(written), written)
    else:
        said = invocation.server.described(lambda contract: _of_contract(contract, name, written))
    invocation.output.one(said, lambda: yaml_text(said))


def _of_contract(contract: Contract, name: str, written: Written | None) -> dict[str, Any]:
    from sagactl.contract.schemas import schema_of  # noqa: PLC0415  # which needs protobuf

    if written is None:
        return {"$schema": _DIALECT, **schema_of(contract.method(name).output_type, has_defaults=False)}
    message: Any = contract.symbol(written.message)
    return _many(schema_of(message, has_defaults=written.has_defaults), written)


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _many(item: dict[str, Any], written: Written) -> dict[str, Any]:
    """The schema of an array of items, where that is what is written."""
    if not written.is_many:
        return {"$schema": _DIALECT, **item}
    definitions = item.pop("$defs", None)
    return {
        "$schema": _DIALECT,
        "type": "array",
        "items": item,
        **({"$defs": definitions} if definitions else {}),
    }
