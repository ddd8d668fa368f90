"""All ways to break the core: what a careless change might do. Each must be caught by the oracle in some story."""

from __future__ import annotations

from proof.core import mutants_acts, mutants_attempts, mutants_blocks, mutants_takeovers, mutants_turns

MUTANTS = [*mutants_attempts.MUTANTS, *mutants_turns.MUTANTS, *mutants_blocks.MUTANTS]
BY_PEOPLE = mutants_acts.MUTANTS
"""What shows only where people act."""
TAKEN_OVER = mutants_takeovers.MUTANTS
"""What shows only where coordinators are lost one after the other."""
