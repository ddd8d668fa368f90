"""Ways to break what shows where coordinators are lost one after the other."""

from __future__ import annotations

from unittest.mock import patch

from proof.mutant import Mutants, instead_of
from saga_coordinator.saga.machine import proceed
from saga_coordinator.saga.machine.progress import is_progress
from saga_coordinator.saga.machine.takeover import pause_seconds

MUTANTS = Mutants()


MUTANTS.replaced(
    retries_at_once=lambda: instead_of(pause_seconds, lambda takeovers: 0.0),
    forgets_progress=lambda: instead_of(is_progress, lambda entry: False),
    takes_a_lost_attempt_for_progress=lambda: instead_of(is_progress, lambda entry: True),
    adopts_for_ever=lambda: patch.object(proceed, "TAKEOVERS_MAX", 1000),
    parks_early=lambda: patch.object(proceed, "TAKEOVERS_MAX", 6),
)
