"""A deterministic simulation of several coordinators on one database, and a checker that judges what they did.

The core, the journal and the engine are the real ones. Time, scheduling, Postgres, the network and the participants are
simulated under one seed, so that a run with the same seed is the same run, event by event.

- `loop` is an asyncio event loop in virtual time whose callbacks belong to nodes, which crash and freeze.
- `database` has the semantics of the store's SQL, and fails in all the ways that a database fails; `stores` ask it.
- `participants` are services behind a network that loses, repeats, delays and reorders.
- `workload` makes definitions and clients; `nemesis` crashes, freezes and cuts off.
- `batch` runs some sagas under one seed; `checker` judges their history without knowing the engine; `__main__` runs many.
- `mutants`, `mutants_waiting` and `mutants_rooms` are broken engines, to prove that the checker would notice.
"""
