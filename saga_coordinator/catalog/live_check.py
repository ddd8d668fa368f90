"""Checks a definition against what its participants serve at this moment.

The values of references are not known before a saga runs. The names of the fields around them and the literal values are known,
and are checked. What cannot be checked is a warning, so that nothing passes in silence without a check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor

from saga_coordinator.catalog.live_outline import Call, Outline
from saga_coordinator.catalog.live_outputs import output_faults
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls.contract import SERVICE
from saga_coordinator.participants.calls.described import DescribedServices
from saga_coordinator.participants.calls.fit import misfits
from saga_coordinator.participants.directory.descriptors import NotDescribed, some_of
from saga_coordinator.participants.directory.names import not_known
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.saga.words.outcome import CauseCode, clip
from saga_coordinator.turns import Turns

PATIENCE_SECONDS = 5.0
"""How long a participant may take to say what it serves."""
AT_ONCE = 64
"""Participants that are asked at the same time."""

_AWAY = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})


@dataclass(slots=True)
class Findings:
    """`faults` keep sagas of the definition from running well. `warnings` are about what could not be checked."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


async def check_live(
    outline: Outline, participants: Attempts, schemas: Mapping[str, Any], turns: Turns
) -> Findings:
    """Finds what keeps a valid definition from calling the participants in the directory, and from reading their replies.

    `schemas` are the output schemas of declared steps, by the step's name. Long work is done in `turns`.

    Raises Overloaded when no turn comes.
    """
    room = asyncio.Semaphore(AT_ONCE)
    by_participant: dict[str, list[Call]] = {}
    for call in outline.calls:
        by_participant.setdefault(call.participant, []).append(call)
    inquiries = [_Inquiry(name, calls, participants) for name, calls in by_participant.items()]

    async def make(inquiry: _Inquiry) -> None:
        async with room:
            await asyncio.sleep(0)  # the search for similar names takes milliseconds
            await inquiry.make()

    await asyncio.gather(*map(make, inquiries))
    order = {call.path: number for number, call in enumerate(outline.calls)}
    found = Findings(
        [fault for path in order for inquiry in inquiries for fault in inquiry.faults.get(path, ())],
        [warning for inquiry in inquiries for warning in inquiry.warnings],
    )
    replies = {
        name: reply
        for name, call in outline.actions.items()
        for inquiry in inquiries
        if (reply := inquiry.replies.get(call.path)) is not None
    }
    faults, doubts = await turns.in_thread(output_faults, outline, replies, schemas)
    found.faults += faults
    found.warnings += doubts
    return found


class _Inquiry:
    """Asks one participant about the calls to it. Keeps the faults by the path of the call, and the descriptor of each reply."""

    def __init__(self, name: str, calls: list[Call], participants: Attempts) -> None:
        self._name = name
        self._calls = calls
        self._participants = participants
        self.faults: dict[str, list[Fault]] = {}
        self.warnings: list[Fault] = []
        self.replies: dict[str, Descriptor] = {}

    async def make(self) -> None:
        if self._name not in self._participants.names:
            self._fault_all(not_known(self._participants.directory, self._name))
        elif self._name in self._participants.worker_names:
            await self._ask_workers()
        else:
            await self._ask_server()

    def _fault(self, call: Call, name: str, description: str) -> None:
        self.faults.setdefault(call.path, []).append(call.fault(name, description))

    def _fault_all(self, description: str) -> None:
        for call in self._calls:
            self._fault(call, "participant", description)

    async def _ask_workers(self) -> None:
        known = await self._participants.methods_of_workers(self._name)
        if known is None:
            self._fault_all(f"no worker of `{self._name}` is connected to any coordinator")
        elif not known:
            self._warn_unknown_methods(f"a worker of `{self._name}` says that it performs every method")
        for call in self._calls:
            if known and call.method not in known:
                meant = did_you_mean(call.method, sorted(known))
                self._fault(
                    call,
                    "method",
                    f"no connected worker of `{self._name}` performs `{call.method}`; known: {some_of(sorted(known))}{meant}",
                )

    async def _ask_server(self) -> None:
        services = self._participants.described_afresh(self._name)
        if services is None:  # the directory has just become another
            self._fault_all(not_known(self._participants.directory, self._name))
            return
        try:
            serves_contract, why = await self._serves_contract()
            if why is not None and why.code in _AWAY:
                self._fault_all(
                    f"{self._name}: {why}" if why.code == "UNAVAILABLE" else f"{self._name} {why}"
                )
                return
            named = [call for call in self._calls if not call.is_plain]
            if serves_contract:
                self._warn_unknown_methods(f"{SERVICE} of {self._name} does not say which methods it knows")
            elif serves_contract is None:
                self._warn_unknown_methods(f"it is not known whether {self._name} serves {SERVICE} ({why})")
            else:
                for call in named:
                    self._fault(call, "participant", f"{self._name} does not serve {SERVICE}: {why}")
            await asyncio.gather(*(self._ask(call, services) for call in self._calls if call.is_plain))
        finally:
            services.close()

    async def _serves_contract(self) -> tuple[bool | None, NotDescribed | None]:
        """Tells whether the participant serves the contract, or None if that cannot be found out; and what it said instead."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                listed = await self._participants.services_listed(self._name) or []
        except NotDescribed as error:
            return None, error
        except TimeoutError:
            return None, NotDescribed(
                "DEADLINE_EXCEEDED", f"does not say within {PATIENCE_SECONDS:g} s what it serves"
            )
        if SERVICE not in listed:
            return False, NotDescribed(CauseCode.NO_SUCH_METHOD, f"it lists {some_of(listed)}")
        return True, None

    def _warn_unknown_methods(self, why: str) -> None:
        """Warns once, at the first such call, of all methods that cannot be asked about."""
        named = [
            call for call in self._calls if not call.is_plain or self._name in self._participants.worker_names
        ]
        if named:
            methods = some_of(dict.fromkeys(call.method for call in named))
            self.warnings.append(
                named[0].fault("method", clip(f"{why}, so these were not checked: {methods}"))
            )

    async def _ask(self, call: Call, services: DescribedServices) -> None:
        try:
            method = await services.method(call.method, PATIENCE_SECONDS)
        except NotDescribed as error:
            is_method = error.code == CauseCode.NO_SUCH_METHOD
            self._fault(call, "method" if is_method else "participant", f"{self._name}: {error}")
            return
        except TimeoutError:
            self._fault(
                call,
                "participant",
                f"{self._name} does not say within {PATIENCE_SECONDS:g} s what it serves",
            )
            return
        if method.streams:
            self._fault(call, "method", f"is {method.streams}; a step calls a unary method")
            return
        reply: Any = method.reply.DESCRIPTOR  # the stubs tell two classes apart that are one
        self.replies[call.path] = reply
        self.faults.setdefault(call.path, []).extend(misfits(call.input, method, f"{call.path}.input"))
