"""Real coordinators, real Postgres and real participants under real violence, and then the books.

    python -m proof.torture --seconds 60 --seed 1

- `definitions` and `participant`: what is asked for, and guarded services with books of their own that do it.
- `load`: starts, repeats, cancels and waits, through any coordinator, as clients do.
- `plan` and `faults`: what is broken when, by a seed. `proxy`: connections that get cut, slow, silent or lose answers.
- `crashing`: a coordinator that kills itself at a named point of its work, or lives by a wrong clock.
- `processes`: everything that runs, each a process of its own on loopback.
- `evidence`, `judge` and `resumption`: what is to be seen afterwards, and what it proves. They know nothing of the engine.
- `scale`: what many sagas, sick participants, more coordinators and a million sleepers cost.

For development only; not part of what is shipped.
"""
