"""Makes commands of the verbs in the table, and performs them."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from sagactl.completing import complete_sagas
from sagactl.endings import Lacking, WrongUsage
from sagactl.inputs import pairs_of, value_of
from sagactl.invocation import Asking, Invocation, invocation_of, note
from sagactl.showing.formats import Column, yaml_text
from sagactl.verbs import Parameter, Verb, unknown_act, verbs_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor

_ACT_FIELDS = ("act_id", "requested_by", "reason", "dry_run")


class VerbGroup(click.Group):
    """A group with commands of its own, and with those of the table. A name that nobody here knows is asked of the server."""

    def __init__(self, *args: Any, verbs: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._group = verbs
        for verb in verbs_of(verbs).values():
            self.add_command(command_of(verb))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if (
            found is None
            and self._group == "sagas"
            and cmd_name.replace("-", "").isalpha()
            and cmd_name.islower()
        ):
            return command_of(unknown_act(cmd_name), known=tuple(self.commands))
        return found


def command_of(verb: Verb, known: tuple[str, ...] = ()) -> click.Command:
    """The command of a verb. `known` are the names that its group has, for verbs that only the server may know."""
    params: list[click.Parameter] = [
        click.Argument(
            [each.name],
            metavar=each.name.upper(),
            required=not known,
            shell_complete=complete_sagas if each.field == "saga_id" else None,
        )
        for each in verb.arguments
    ]
    params += [click.Option([f"--{each.name}"], metavar="VALUE", help=each.text) for each in verb.flags]
    if verb.is_act:
        params += [
            click.Option(["--reason"], metavar="TEXT", help="Why, for the record of acts."),
            click.Option(["--act-id"], metavar="ID", help="Makes the act idempotent. [default: a new UUID]"),
            click.Option(["--dry-run"], is_flag=True, help="Only show what the act would do."),
            click.Option(["--yes", "-y"], is_flag=True, help="Do not ask."),
        ]
    params.append(
        click.Option(
            ["--set"],
            multiple=True,
            metavar="FIELD=VALUE",
            help="Another field of the request: JSON, or a text.",
        )
    )

    def perform(**given: Any) -> None:
        ctx = click.get_current_context()
        Act(invocation_of(ctx), verb, given, known).perform()

    return Asking(verb.name, params=params, callback=perform, help=verb.text, short_help=verb.text)


class Act:
    """One run of a verb, with what was given on the command line."""

    def __init__(
        self, invocation: Invocation, verb: Verb, given: dict[str, Any], known: tuple[str, ...]
    ) -> None:
        self._invocation = invocation
        self._verb = verb
        self._given = given
        self._known = known

    def perform(self) -> None:
        """Asks the server, after showing the plan where the verb is an act. Raises Problem."""
        method = self._method()
        request = self._request(method)
        if self._verb.is_act:
            if self._given["dry_run"]:
                self._write(method, {**request, **self._checked(method, {"dry_run": True})})
                return
            self._confirm(method, request)
        self._write(method, request)

    def _method(self) -> MethodDescriptor:
        for name in self._verb.methods:
            found: MethodDescriptor | None = self._invocation.server.maybe_method(name)
            if found is not None:
                return found
        if self._known:
            import difflib  # noqa: PLC0415  # only for this

            near = difflib.get_close_matches(self._verb.name, self._known, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise WrongUsage(
                f"there is no verb `{self._verb.name}` here, and this server has none of that name{hint}"
            )
        raise Lacking(
            f"this server cannot `{self._verb.name}` yet: it has no {self._verb.methods[0].removeprefix('saga.v1.')}; a newer "
            "coordinator may"
        )

    def _request(self, method: MethodDescriptor) -> dict[str, Any]:
        request: dict[str, Any] = {}
        for parameter in (*self._verb.arguments, *self._verb.flags):
            given = self._given[parameter.name.replace("-", "_")]
            if given is not None:
                request[parameter.field] = self._value(parameter, given)
        for name, text in pairs_of(self._given["set"], "--set").items():
            request[name] = value_of(text)
        if self._verb.is_act:
            request |= self._act_fields(method)
        return self._checked(method, request)

    def _act_fields(self, method: MethodDescriptor) -> dict[str, Any]:
        known = method.input_type.fields_by_name
        said = {"act_id": self._given["act_id"], "reason": self._given["reason"]}
        asked = {name: value for name, value in said.items() if value is not None}
        if "act_id" in known:
            asked.setdefault("act_id", _uuid7())
        if "requested_by" in known:
            asked["requested_by"] = self._invocation.requested_by
        return asked

    def _value(self, parameter: Parameter, given: str) -> Any:
        if parameter.field == "saga_id":
            return self._invocation.identity_of(given)
        if parameter.field == "operation":
            return f"OPERATION_KIND_{given.upper()}"
        if parameter.field == "finding":
            return f"FINDING_{given.upper()}"
        return value_of(given) if parameter.is_value else given

    def _checked(self, method: MethodDescriptor, request: dict[str, Any]) -> dict[str, Any]:
        """The request, if the method has all of its fields. Raises Lacking."""
        known = method.input_type.fields_by_name
        for name in request:
            if name not in known:
                raise Lacking(
                    f"this server's {method.name} takes no `{name}`; it takes: {', '.join(known) or 'nothing'}"
                )
        return request

    def _confirm(self, method: MethodDescriptor, request: dict[str, Any]) -> None:
        plan = f"{method.name} {yaml_text(request)}"
        if not self._given["yes"] and "dry_run" in method.input_type.fields_by_name:
            plan = yaml_text(self._invocation.server.call_method(method, {**request, "dry_run": True}))
        self._invocation.confirm(plan, is_sure=self._given["yes"])

    def _write(self, method: MethodDescriptor, request: dict[str, Any]) -> None:
        server, output = self._invocation.server, self._invocation.output
        items = items_of(method)
        if method.server_streaming:
            for answer in server.stream(method, [request]):
                output.item(answer, lambda answer=answer: yaml_text(answer))  # type: ignore[misc]  # the default binds it now
        elif items is not None:
            if not output.many(self._pages(method, request, items), columns_of(method, items)):
                note("There is nothing.")
        else:
            answer = server.call_method(method, request)
            output.one(answer, lambda: yaml_text(answer))

    def _pages(
        self, method: MethodDescriptor, request: dict[str, Any], items: str
    ) -> Iterator[dict[str, Any]]:
        name = f"{method.containing_service.full_name}/{method.name}"
        return self._invocation.server.pages(name, request, items)


def _uuid7() -> str:
    """A UUID that sorts by the time at which it was made, by which servers list acts (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))


def items_of(method: MethodDescriptor) -> str | None:
    """The field that holds the items, if the method answers a page of a list."""
    answer = method.output_type
    if "next_page_token" not in answer.fields_by_name:
        return None
    return next(
        (str(field.name) for field in answer.fields if field.is_repeated and field.message_type is not None),
        None,
    )


def columns_of(method: MethodDescriptor, items: str) -> list[Column]:
    """A column for each simple field of the items, those behind the sixth only for `wide`."""
    item: Any = method.output_type.fields_by_name[items].message_type
    simple = [
        field
        for field in item.fields
        if field.message_type is None or field.message_type.full_name.startswith("google.protobuf.")
    ]
    return [
        Column(field.name.upper().replace("_", " "), field.name, is_wide=index >= 6)
        for index, field in enumerate(simple)
    ]
