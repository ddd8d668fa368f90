"""The way from an operation to its service.

    Attempts(directory).invoke(Invoke) -> Outcome

`attempts` makes the attempts: one call of `invoke` is one attempt. Nothing here retries, because a retry that is not in the log
would be an attempt that nobody can account for. Its rooms, each of which imports only those before it:

- `directory` says where each named participant lives, how it is reached and which methods it describes;
- `calls` calls a participant that has an inbound port, by the contract or by a method of its own, and keeps calls apart;
- `workers` hands tasks to participants that connect by a stream.

`live_directory` changes the directory while calls are under way.
"""
