"""Judges waits, conditions and events by the inputs that came and the entries that followed; a part of the oracle."""

from __future__ import annotations

from dataclasses import dataclass

from proof.core.breach import check
from proof.core.foreseen import Foreseen, seconds
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine.inputs import ApprovalDecided, EventArrived, Input
from saga_coordinator.saga.words.identity import OperationKind

ACTION = OperationKind.ACTION


@dataclass
class _Wait:
    started_at: float
    until: float | None


class Watch:
    """What has become of waits and conditions, by the inputs that came and the entries that followed."""

    def __init__(self, foreseen: Foreseen) -> None:
        self.foreseen = foreseen
        self.open_waits: dict[str, _Wait] = {}
        self.ended_waits: set[str] = set()
        self.begun: set[str] = set()
        self.failed: set[str] = set()
        """Actions that failed, waits among them."""
        self.given_up: set[str] = set()
        """Compensations that failed."""
        self.skipped: set[str] = set()
        self.events: list[EventArrived] = []
        """Those that arrived in time and that no wait has taken, the earliest first."""
        self.arrived: set[str] = set()

    def is_over(self, key: str) -> bool:
        """Whether those after it may start, whatever was heard of its call."""
        if key in self.skipped or key in self.ended_waits:
            return True
        return key in self.failed and self.foreseen.plan.instances[key].on_failure == "continue"

    def is_wanted(self, key: str) -> bool:
        """Whether its condition holds, if it is one about what became of another step."""
        other = self.foreseen.needs_failure_of(self.foreseen.leaves[key])
        return other is None or other in self.failed

    def decided(self, happened: Input, entries: tuple[log.Entry, ...], now: float) -> None:
        if isinstance(happened, EventArrived) and any(
            isinstance(entry, log.EventReceived) for entry in entries
        ):
            check(happened.event_id not in self.arrived, f"{happened.event_id} came before, and counts again")
            self.arrived.add(happened.event_id)
            self.events.append(happened)
        for entry in entries:
            self._follow(happened, entry, now)
        for key in self.open_waits:
            if not any(isinstance(entry, log.SagaFailed) for entry in entries):
                check(not self._event_for(key), f"the event that {key} waits for has come, and it waits on")

    def _follow(self, happened: Input, entry: log.Entry, now: float) -> None:
        match entry:
            case log.SagaFailed() | log.SagaRecalled():
                self.open_waits.clear()
            case log.StepSkipped(key):
                is_meant = key not in self.foreseen.skipped
                check(not (is_meant and self.is_wanted(key)), f"{key} is skipped although it is to run")
                self.skipped.add(key)
            case log.WaitStarted(key, until):
                self.begun.add(key)
                check(key in self.foreseen.leaves, f"{key} waits, which never was to run")
                missing = [other for other in self.foreseen.before[key] if other in self.open_waits]
                check(not missing, f"{key} waits before {missing} are over")
                self.open_waits[key] = _Wait(now, until)
            case log.AttemptStarted(key, operation=OperationKind.ACTION):
                self.begun.add(key)
            case log.AttemptSucceeded(key) | log.AttemptRefused(key) if key in self.open_waits:
                self._check_wait(key, happened, entry, now)
            case log.AttemptSucceeded(key, OperationKind.ACTION):
                self.failed.discard(key)
            case (
                log.AttemptRefused(key, kind) | log.AttemptUnresolved(key, kind) | log.InputInvalid(key, kind)
            ):
                (self.failed if kind is ACTION else self.given_up).add(key)
            case log.StepFailed(key):
                self.failed.add(key)
            case _:
                pass

    def _event_for(self, key: str) -> EventArrived | None:
        wanted = self.foreseen.leaves[key].spec.get("await_event", {}).get("event")
        correlations = ("", self.foreseen.correlation(key))
        found = (each for each in self.events if each.name == wanted and each.correlation in correlations)
        return next(found, None)

    def _may_decide(self, happened: ApprovalDecided, key: str) -> bool:
        approval = self.foreseen.leaves[key].spec.get("approval")
        approvers = approval and approval.get("approvers")
        return (
            happened.step == key
            and approval is not None
            and happened.decided_by in (approvers or [happened.decided_by])
        )

    def _check_wait(
        self, key: str, happened: Input, entry: log.AttemptSucceeded | log.AttemptRefused, now: float
    ) -> None:
        wait, source = self.open_waits.pop(key), self.foreseen.leaves[key].spec
        event, is_met = self._event_for(key), isinstance(entry, log.AttemptSucceeded)
        terms = source.get("await_event") or source.get("approval") or {"timeout": source.get("delay")}
        is_due = terms.get("timeout") is not None and now >= wait.started_at + seconds(terms["timeout"])
        is_due = is_due or ("until" in source and now >= self.foreseen.given["at"])
        if event is not None:
            check(is_met, f"the event that {key} waits for has come, and it fails")
            assert isinstance(entry, log.AttemptSucceeded)
            check(entry.event_id == event.event_id, f"{key} takes {entry.event_id}, not {event.event_id}")
            check(entry.output == event.payload, "the event's payload is the output")
            self.events.remove(event)
        elif isinstance(happened, ApprovalDecided) and self._may_decide(happened, key):
            check(is_met is happened.is_approved, f"{key} was decided, and the other way")
        else:
            check(is_due, f"nothing that {key} waits for has happened, and it ends")
            check(
                is_met == (bool({"delay", "until"} & source.keys()) or terms.get("on_timeout") == "continue"),
                f"{key} ends the wrong way when its time is up",
            )
        (self.ended_waits if is_met else self.failed).add(key)
