"""Clients: they start sagas, more than once when in doubt, wait for them and cancel some; participants' reports go this way too.

A client asks one coordinator, and another one when it hears nothing or is told to come back later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from proof.simulation.commits import CommitRefused
from proof.simulation.database import SimulatedDatabase
from proof.simulation.evidence import FINAL
from proof.simulation.history import AttemptKey, Beat, Cancel, History, Report, Start, StartAnswer
from proof.simulation.loop import Node, SimulatedLoop
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.inputs import CancelAsked, HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.words.act import Act, Subject, SubjectKind, Verb
from saga_coordinator.saga.words.errors import AlreadyExists, NotPossibleNow, Unavailable
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.reasons import Reason

Ask = Callable[[Coordinator], Coroutine[Any, Any, Any]]

_ANSWER_SECONDS_MAX = 6.0


class Clients:
    """`nodes` are the coordinators that run now, kept up to date by the nemesis."""

    def __init__(
        self, loop: SimulatedLoop, dice: random.Random, database: SimulatedDatabase, history: History
    ) -> None:
        self.nodes: list[tuple[Node, Coordinator]] = []
        self.asking = 0
        """Questions without a final answer."""
        self._loop = loop
        self._dice = dice
        self._database = database
        self._history = history

    # Starts.

    def start(self, start: Start, *, is_patient: bool, body: int) -> None:
        """Asks for a saga until there is an answer, or, impatient, only once."""
        request = StartSaga(
            start.definition,
            start.start_key,
            input={**start.input, "body": body},
            labels={"batch": "simulated"},
            deadline_seconds=start.deadline_seconds,
        )

        def answered(answer: Any) -> bool:
            match answer:
                case AlreadyExists():
                    start.answers.append(StartAnswer(body, None, is_created=False))
                case (str() as saga_id, bool() as is_created):
                    start.answers.append(StartAnswer(body, saga_id, is_created))
                    self._follow(saga_id)
                case Unavailable() | None:
                    return is_patient
                case NotPossibleNow(reason=Reason.NO_SUCH_PARTICIPANT):  # known to another coordinator
                    return True
                case _:
                    self.surprise("start_saga", answer)
            return False

        self.ask(lambda coordinator: coordinator.start_saga(request), answered)

    def _follow(self, saga_id: str) -> None:
        chance = self._dice.random()
        if chance < 0.1:
            self.asking += 1
            self._loop.later(12 * self._dice.random() ** 3, self._cancel, saga_id)
        elif chance < 0.2:
            self._wait(saga_id)

    def _cancel(self, saga_id: str) -> None:
        self.asking -= 1
        subject = Subject(SubjectKind.SAGA, saga_id)
        act = Act(f"cancel {len(self._history.cancels)}", Verb.CANCEL_SAGA, subject, declared_by="operator")
        cancel = Cancel(saga_id, self._loop.now, act)
        self._history.cancels.append(cancel)
        self._history.faults["cancel"] += 1

        def answered(answer: Any) -> bool:
            match answer:
                case Unavailable():
                    return True
                case NotPossibleNow():
                    cancel.is_done = False
                case "done":
                    cancel.is_done = True
                case None:
                    return True
                case _:
                    self.surprise("cancel", answer)
            cancel.answered_at = self._loop.now
            return False

        async def ask(coordinator: Coordinator) -> str:
            await coordinator.ask(saga_id, CancelAsked("changed my mind", "operator", act))
            return "done"

        self.ask(ask, answered, patience=25.0)

    def _wait(self, saga_id: str) -> None:
        async def ask(coordinator: Coordinator) -> bool:
            is_settled = await coordinator.wait(saga_id, 3.0)
            if is_settled:
                has_ended = any(row.type in FINAL for row in self._database.logs[saga_id])
                self._history.waits.append((saga_id, self._loop.now, has_ended))
            return is_settled is not None

        def answered(answer: Any) -> bool:
            if isinstance(answer, Exception) and not isinstance(answer, Unavailable):
                self.surprise("wait", answer)
            return False

        self.ask(ask, answered)

    # Reports.

    def report(self, report: Report) -> None:
        """Tells some coordinator until one has taken it down."""
        operation = OperationKind(report.operation)

        reported = OutcomeReported(report.step, operation, report.outcome, report.attempt)

        async def ask(coordinator: Coordinator) -> bool:
            return (await coordinator.ask(report.saga_id, reported)).is_applied

        def answered(answer: Any) -> bool:
            match answer:
                case bool():
                    report.answers.append(answer)
                case Unavailable() | None:
                    return True
                case NotPossibleNow():
                    report.answers.append(None)
                case _:
                    self.surprise("report_outcome", answer)
            return False

        self.ask(ask, answered, patience=25.0)

    def beat(self, attempt: AttemptKey, beat: Beat) -> None:
        """Tells some coordinator, once, that somebody is still at a pending attempt."""
        saga_id, step, operation, number = attempt
        received = HeartbeatReceived(step, OperationKind(operation), number)

        def answered(answer: Any) -> bool:
            match answer:
                case Answered():
                    beat.is_awaited = answer.is_applied
                    beat.answered_at = self._loop.now
                case Unavailable() | None:
                    pass
                case _:
                    self.surprise("heartbeat", answer)
            return False

        self.ask(lambda coordinator: coordinator.ask(saga_id, received), answered)

    # How to ask.

    def ask(self, ask: Ask, answered: Callable[[Any], bool], patience: float = _ANSWER_SECONDS_MAX) -> None:
        """Asks some coordinator, and another one as long as `answered` says so of an answer; None: none came in time."""
        self.asking += 1
        _Question(self, self._loop, self._dice, ask, answered, patience).send()

    def surprise(self, what: str, answer: Any) -> None:
        """Takes down an answer that no program should give."""
        self._history.defects.append(f"{what} answered {answer!r}")


class _Question:
    """One question of a client, asked again elsewhere as long as `answered` says so. None: no answer came in time."""

    def __init__(
        self,
        clients: Clients,
        loop: SimulatedLoop,
        dice: random.Random,
        ask: Ask,
        answered: Callable[[Any], bool],
        patience: float,
    ) -> None:
        self._clients = clients
        self._loop = loop
        self._dice = dice
        self._ask = ask
        self._answered = answered
        self._patience = patience
        self._round = 0

    def send(self) -> None:
        self._round += 1
        if not self._clients.nodes:
            self._loop.later(0.3, self.send)
            return
        node, coordinator = self._dice.choice(self._clients.nodes)
        self._loop.later(0.0005 + 0.002 * self._dice.random(), self._arrive, node, coordinator, self._round)

    def _arrive(self, node: Node, coordinator: Coordinator, number: int) -> None:
        if not node.is_alive:
            self._loop.later(
                0.01, self._hear, Unavailable(Reason.DATABASE_UNAVAILABLE, "connection refused"), number
            )
            return
        task = node.spawn(self._run(coordinator, number))
        self._loop.later(self._patience, self._give_up, node, task, number)

    async def _run(self, coordinator: Coordinator, number: int) -> None:
        try:
            answer: Any = await self._ask(coordinator)
        except CommitRefused as error:  # INTERNAL, to them: they ask again
            answer = Unavailable(Reason.DATABASE_UNAVAILABLE, str(error))
        except Exception as error:  # noqa: BLE001 - the answer is whatever it is
            answer = error
        self._loop.later(0.0005 + 0.001 * self._dice.random(), self._hear, answer, number)

    def _give_up(self, node: Node, task: asyncio.Task[None], number: int) -> None:
        if number == self._round:
            self._loop.call_soon(task.cancel, context=node.context.copy())
            self._hear(None, number)

    def _hear(self, answer: Any, number: int) -> None:
        if number != self._round:
            return
        self._round += 1
        if self._answered(answer):
            self._loop.later(0.05 + 0.5 * self._dice.random(), self.send)
        else:
            self._clients.asking -= 1
