"""The imperative shell: it decides by the core, appends, and only then acts (P6).

- `advance` is the one write path: inputs in, entries committed, effects out.
- `drive` performs effects: calls, timers, ends.
- `lease` says whether this coordinator may act, and what time it is.
- `ownership` claims what nobody drives and drops what others have taken.
- `coordinator` is the front: start, wait, cancel, report.

Who may act on a saga: the coordinator that its row names, while that coordinator's lease lasts by the database's clock. The
coordinator itself judges that by its own monotonic clock from before it asked for the lease, so it stops sooner than others
begin. Should it be wrong all the same, the log's primary key is right: its next append loses (P8).
"""
