"""What each command writes with `-o json`, as data: a message of the contract, or an object of this program's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_YES_OR_NO: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_OBJECT: Schema = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Written:
    """What a command writes: a message by its full name, or else an object of these fields. `is_many`: an array of them. What
    follows something as it happens (`sagas watch`, `top`) writes an object a line.
    """

    message: str = ""
    fields: Mapping[str, Schema] = field(default_factory=dict)
    optional: Mapping[str, Schema] = field(default_factory=dict)
    is_many: bool = False
    has_defaults: bool = True


def _objects(fields: Mapping[str, Schema], **optional: Schema) -> Written:
    return Written(fields=fields, optional=optional, is_many=True)


def _object(fields: Mapping[str, Schema], **optional: Schema) -> Written:
    return Written(fields=fields, optional=optional)


_DEFINITION = {
    "name": _TEXT,
    "version": _COUNT,
    "digest": _TEXT,
    "registered_at": _MAYBE_TEXT,
    "default": _YES_OR_NO,
    "deprecated": _YES_OR_NO,
    "steps": _COUNT,
    "description": _TEXT,
}
_DELETED = _object({"deleted": _TEXT})

OUTPUTS: Mapping[str, Written] = {
    "sagas list": Written("saga.v1.Saga", is_many=True),
    "sagas show": Written("saga.v1.GetSagaResponse"),
    "sagas watch": Written("saga.v1.Entry"),
    "sagas start": Written("saga.v1.StartSagaResponse"),
    "sagas cancel": Written("saga.v1.CancelSagaResponse"),
    "sagas preview": Written("saga.v1.PreviewCompensationResponse"),
    "sagas signal": Written("saga.v1.SignalSagaResponse"),
    "sagas acts": Written("saga.v1.Act", is_many=True),
    "acts": Written("saga.v1.Act", is_many=True),
    "groups": Written("saga.v1.ClaimGroup", is_many=True),
    "wait": Written("saga.v1.Saga"),
    "definitions list": _objects(_DEFINITION),
    "definitions get": Written("saga.v1.RegisteredDefinition", has_defaults=False),
    "definitions validate": _object({"faults": {"type": "array", "items": _OBJECT}}),
    "definitions diff": _object(
        {"before": _TEXT, "after": _TEXT, "differences": {"type": "array", "items": _OBJECT}}
    ),
    "definitions deprecate": _object(_DEFINITION),
    "definitions default": _object(_DEFINITION),
    "definitions delete": _DELETED,
    "participants list": Written("saga.v1.ParticipantStatus", is_many=True),
    "participants show": Written("saga.v1.ParticipantStatus"),
    "participants health": _object(
        {
            "name": _TEXT,
            "is_well": _YES_OR_NO,
            "breaker": _TEXT,
            "connectivity": _TEXT,
            "last_outcome": _TEXT,
        },
        last_failure={"type": ["object", "null"]},
    ),
    "participants put": _object({"name": _TEXT, "created": _YES_OR_NO}),
    "participants delete": _DELETED,
    "participants breaker": Written("saga.v1.SetBreakerResponse"),
    "events publish": _object(
        {"event_id": _TEXT, "sagas": _COUNT, "duplicate": _YES_OR_NO},
        kept_until=_TEXT,
        remembered_until=_TEXT,
    ),
    "events list": Written("saga.v1.PublishedEvent", is_many=True),
    "approvals list": _objects(
        {"saga_id": _TEXT, "definition": _TEXT, "step": _TEXT, "waiting_until": _MAYBE_TEXT}, shown={}
    ),
    "approvals approve": _object(
        {"saga_id": _TEXT, "step": _TEXT, "approved": _YES_OR_NO, "applied": _YES_OR_NO}
    ),
    "approvals reject": _object(
        {"saga_id": _TEXT, "step": _TEXT, "approved": _YES_OR_NO, "applied": _YES_OR_NO}
    ),
    "apply": _objects(
        {
            "kind": _TEXT,
            "name": _TEXT,
            "action": {"enum": ["create", "change", "keep", "remove"]},
            "differences": _TEXTS,
            "result": _TEXT,
        },
        is_changed=_YES_OR_NO,
        failed=_YES_OR_NO,
    ),
    "health": Written("grpc.health.v1.HealthCheckResponse"),
    "doctor": _objects(
        {"what": _TEXT, "verdict": {"enum": ["well", "look", "wrong", "unknown"]}, "found": _TEXT}
    ),
    "top": _object(
        {
            "at": _TEXT,
            "counts": _OBJECT,
            "counted_max": _COUNT,
            "participants": {"type": "array", "items": _OBJECT},
            "problem": _TEXT,
        },
        started_a_second={"type": ["number", "null"]},
    ),
    "list-methods": _objects(
        {
            "method": _TEXT,
            "takes_stream": _YES_OR_NO,
            "sends_stream": _YES_OR_NO,
            "request": _TEXT,
            "response": _TEXT,
            "comment": _TEXT,
        }
    ),
    "describe": _object({"kind": _TEXT, "name": _TEXT, "comment": _TEXT}),
    "context list": _objects({"name": _TEXT, "is_current": _YES_OR_NO}),
    "context show": _object({"name": _TEXT, "is_current": _YES_OR_NO}),
    "context use": _object({"current": _TEXT}),
    "context set": _object({"name": _TEXT, "is_current": _YES_OR_NO}),
    "context delete": _DELETED,
    "version": _object({"sagactl": _TEXT, "coordinators": _TEXTS}, problem=_TEXT),
}
"""By the command. What a verb of the table or `call` writes is the response of its method: `sagactl schema METHOD`."""


def own_schema(written: Written) -> Schema:
    """The schema of an object of this program's own. Later versions may add fields."""
    properties = {**written.fields, **written.optional}
    return {"type": "object", "properties": dict(properties), "required": list(written.fields)}
