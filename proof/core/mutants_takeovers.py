"""Ways to break what shows where coordinators are lost one after the other."""

from __future__ import annotations

from unittest.mock import patch

from proof.mutant import Mutants, Patches, instead_of
from saga_coordinator.saga.machine import proceed
from saga_coordinator.saga.machine.progress import is_progress
from saga_coordinator.saga.machine.takeover import pause_seconds

MUTANTS = Mutants()


@MUTANTS.broken()
def retries_at_once() -> Patches:
    yield instead_of(pause_seconds, lambda takeovers: 0.0)


@MUTANTS.broken()
def forgets_progress() -> Patches:
    yield instead_of(is_progress, lambda entry: False)


@MUTANTS.broken()
def takes_a_lost_attempt_for_progress() -> Patches:
    yield instead_of(is_progress, lambda entry: True)


@MUTANTS.broken()
def adopts_for_ever() -> Patches:
    yield patch.object(proceed, "TAKEOVERS_MAX", 1000)


@MUTANTS.broken()
def parks_early() -> Patches:
    yield patch.object(proceed, "TAKEOVERS_MAX", 6)
