"""What people decide: each act is made here, done by the room that it concerns, and recorded whether it is done or refused.

    SagaActs(coordinator, act_rows).ask(actor, saga_id, CancelAsked(...))
    DefinitionActs(versions, acts).deprecate(actor, "order", 2, ...)
    ParticipantActs(directory, acts).set_breaker(actor, "payments", ...)

The record of an act that is done is written in the transaction of what the act does. The record of a refused act is written
before the caller hears of the refusal. A request that names nothing that exists is no act, and leaves no record.
"""
