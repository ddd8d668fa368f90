"""The context of a start accompanies every call of its saga, also after somebody else has taken the saga over."""

from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, Invoke
from saga_coordinator.saga.machine.inputs import AttemptEnded, OwnershipGained, StartRequested
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.stored_entry import decode, encode
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Refused, Succeeded

OPERATION = {"participant": "shop"}
ORDER = parse_definition(
    {
        "name": "order",
        "steps": [
            {"name": name, "action": OPERATION, "compensation": OPERATION} for name in ("reserve", "charge")
        ],
    }
)
HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def calls(decision: Decision) -> list[Invoke]:
    return [effect for effect in decision.effects if isinstance(effect, Invoke)]


def test_headers_go_with_actions_and_compensations_and_survive_a_takeover() -> None:
    started = decide(ORDER, None, StartRequested("s", 1, {}, {}, headers=HEADERS), 0.0, 0.0)
    reserved = AttemptEnded("reserve", OperationKind.ACTION, 1, Succeeded())
    on_its_way = decide(ORDER, started.state, reserved, 0.0, 0.0)
    log = [decode(encode(entry)) for entry in (*started.entries, *on_its_way.entries)]
    adopted = decide(ORDER, fold("s", log), OwnershipGained("another"), 0.0, 0.0)
    refused = AttemptEnded(
        "charge", OperationKind.ACTION, 2, Refused(Cause("FAILED_PRECONDITION", "declined"))
    )
    # The attempt that was lost may be in flight until its timeout, so the compensation is due later.
    undoing = decide(
        ORDER, decide(ORDER, adopted.state, refused, 0.0, 0.0).state, OwnershipGained(), 60.0, 0.0
    )
    made = [call for decision in (started, on_its_way, adopted, undoing) for call in calls(decision)]
    assert [call.operation.value for call in made] == ["action", "action", "action", "compensation"]
    assert all(call.headers == HEADERS for call in made)
