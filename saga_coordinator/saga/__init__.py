"""The pure core: what a saga is, and what follows from what happened to it.

    decide(definition, state, input, now, jitter) -> Decision(entries, effects, state)
    state == fold(saga_id, entries)

No clock, no randomness, no input or output, no logging: time and the jitter's draw are arguments, and whatever has to happen
is returned as a value. The shell commits `entries` and only then performs `effects` (P6).

Its rooms, each of which imports only those before it: `words`, `expressions`, `schema`, `definition`, `machine`. Read
`definition/model`, `words/outcome`, then `entries`, `transitions`, `state` and `decide` of `machine`, in this order.
"""
