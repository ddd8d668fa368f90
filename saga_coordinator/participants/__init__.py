"""How an operation reaches its service.

    Participants(directory).invoke(Invoke) -> Outcome

`directory` says where each named participant lives, `contract` what is said to it (`saga.v1.ParticipantService`), `payload`
what may be said, `connection` is one gRPC channel, and `calls` makes the attempts. A participant may also be called by a
`plain_method` of its own, which `reflection` or a file describes by `descriptors`; `described` keeps them, `fit` says where a
value does not fit them, and `live_check` tells so before a saga finds out. One call of `invoke` is one attempt: nothing here
retries, because a retry that is not in the log would be an attempt that nobody can account for.
"""
