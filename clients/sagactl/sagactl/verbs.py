"""The verbs that ask one method of the server each, as data.

A verb is there on every server that has its method. On any other server it says in a sentence what is missing. A method of
OperatorService that this table does not have is a verb of `sagactl sagas`, too: `freeze` asks `Freeze` or `FreezeSaga`.
"""

from __future__ import annotations

from dataclasses import dataclass

OPERATORS = "saga.v1.OperatorService"


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument or a flag, and the field of the request that it fills. `is_value` fields take JSON or YAML."""

    name: str
    field: str
    text: str = ""
    is_required: bool = False
    is_value: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of a group. `methods` are tried in order: servers may name one and the same thing differently."""

    group: str
    name: str
    methods: tuple[str, ...]
    text: str
    arguments: tuple[Parameter, ...] = ()
    flags: tuple[Parameter, ...] = ()
    is_act: bool = False
    """A person's act: it has a reason, an identity, a dry run, and asks before it is done."""


_SAGA = Parameter("saga", "saga_id", is_required=True)
_STEP = Parameter("step", "step", "The step's key, where the act is about one step.")
_OPERATION = Parameter("operation", "operation", "action or compensation, where the step has both.")
_BULK = Parameter("bulk", "bulk_id", is_required=True)
_FILTER = Parameter("filter", "filter", "Which sagas: an expression.")


def _act(name: str, text: str, *flags: Parameter, methods: tuple[str, ...] = ()) -> Verb:
    return Verb("sagas", name, methods or candidates(name), text, (_SAGA,), flags, is_act=True)


def candidates(name: str) -> tuple[str, ...]:
    """The methods that a verb of one saga may have: `Pause`, `PauseSaga`, `PauseStep`, `PauseOperation`."""
    verb = "".join(part.capitalize() for part in name.split("-"))
    return tuple(f"{OPERATORS}/{verb}{of}" for of in ("", "Saga", "Step", "Operation"))


def _bulk(name: str, text: str, *flags: Parameter, needs_bulk: bool = True) -> Verb:
    verb = name.capitalize()
    methods = tuple(f"{OPERATORS}/{verb}{of}" for of in ("Bulk", "BulkAct", "Bulks"))
    return Verb(
        "bulk",
        name,
        methods,
        text,
        (_BULK,) if needs_bulk else (),
        flags,
        is_act=name not in ("show", "list", "watch"),
    )


VERBS: tuple[Verb, ...] = (
    _act("pause", "Let nothing new start in a saga. Outcomes, events and timers are still recorded."),
    _act("resume", "Let a paused saga go on."),
    _act("retry", "Make another attempt now, with a fresh budget and the same key.", _STEP),
    _act(
        "skip",
        "Go on as if the step's present operation had ended.",
        _STEP,
        Parameter("result", "output", "The output of a skipped action: JSON or YAML.", is_value=True),
    ),
    _act(
        "resolve",
        "Say what came of an operation that is unknown, pending or given up.",
        _STEP,
        Parameter("finding", "finding", "What came of it: done, not_done or undone."),
        Parameter("result", "output", "What a done action returned: JSON or YAML.", is_value=True),
    ),
    _act("abandon", "Give a saga up. Effects that remain are listed."),
    Verb(
        "sagas",
        "can",
        (f"{OPERATORS}/ListAvailableActs",),
        "Say which acts a saga's state allows now, and why not the others.",
        (_SAGA,),
    ),
    _act("rerun", "Start a new saga from the input of an ended one."),
    _act(
        "edit",
        "Change the input of an operation that was not attempted yet.",
        _STEP,
        _OPERATION,
        Parameter("input", "input", "The new input: JSON or YAML.", is_value=True),
        methods=(f"{OPERATORS}/EditInput", *candidates("edit")),
    ),
    _act(
        "migrate",
        "Move a saga to another version of its definition.",
        Parameter("version", "version", "The version.", is_value=True),
    ),
    Verb(
        "sagas",
        "explain",
        candidates("explain"),
        "Say why a saga is where it is, and who can move it.",
        (_SAGA,),
    ),
    _bulk(
        "start",
        "Act on all sagas of a filter.",
        _FILTER,
        Parameter("verb", "verb", "What to do."),
        needs_bulk=False,
    ),
    _bulk("list", "List bulk acts.", needs_bulk=False),
    _bulk("show", "Show a bulk act and what became of each saga."),
    _bulk("watch", "Follow a bulk act."),
    _bulk("pause", "Let a bulk act rest."),
    _bulk("resume", "Let a bulk act go on."),
    _bulk("cancel", "End a bulk act. What it has done stays done."),
    Verb(
        "", "stuck", (f"{OPERATORS}/ListStuck", f"{OPERATORS}/ListStuckSagas"), "List sagas that do not move."
    ),
    Verb(
        "",
        "ledger",
        (f"{OPERATORS}/GetLedger", f"{OPERATORS}/ListEffects", f"{OPERATORS}/GetEffectLedger"),
        "What a saga did, by whom it was undone, and what remains.",
        (_SAGA,),
    ),
    Verb(
        "",
        "audit",
        (f"{OPERATORS}/ListAudit", f"{OPERATORS}/ListActs"),
        "List what people did, and what was denied.",
    ),
    Verb(
        "",
        "can-i",
        (f"{OPERATORS}/CanI", "saga.v1.PolicyService/CanI"),
        "Say whether you may call a method.",
        (Parameter("method", "method", is_required=True),),
    ),
)
"""All verbs of the table. The groups `sagas` and `bulk` have theirs; those without a group stand beside the groups."""


def verbs_of(group: str) -> dict[str, Verb]:
    """The verbs of a group, by their names."""
    return {verb.name: verb for verb in VERBS if verb.group == group}


def unknown_act(name: str) -> Verb:
    """A verb that only the server knows."""
    return _act(name, f"Asks the server's method for `{name}`.")
