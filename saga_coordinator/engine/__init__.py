"""The imperative shell: it decides by the core, appends, and only then acts (P6).

- `coordinator` is the front: it builds the other parts, starts and stops them, and passes on what it is asked.
- `admission` takes starts, `asking` brings what is asked of a saga to whoever may decide it, `waiting` waits for a saga.
- `drive` moves the sagas in memory (`runs`): `advance` is the one write path, with inputs in, entries committed and effects out;
  `performing` performs the effects.
- `claiming` claims sagas that nobody drives and drops those that others have taken; `adopting` takes claimed sagas into memory.
- `lease` says whether this coordinator may act, and what time it is. `room` says how many more sagas fit into memory.
- `mail` answers other coordinators, `children` run sagas as steps of others, `awaited` are the events that sagas wait for.
- `housekeeping` is a list of chores.

The coordinator that a saga's row names may act on the saga, as long as that coordinator's lease lasts by the database's clock.
The coordinator itself judges the lease by its own monotonic clock, from before it asked for the lease, so it stops sooner than
others begin. If it is wrong all the same, the log's primary key is right: its next append loses (P8).
"""
