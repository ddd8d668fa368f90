"""The tables of schema `saga`, as SQLAlchemy Core sees them. Their DDL is the migrations'; a test compares the two.

Every growing table is led by the saga (or, for start keys, by the key), none refers to another by a foreign key, and no row
is shared by two sagas: the schema can be partitioned and distributed, and sagas never wait for each other's locks.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE

SCHEMA = "saga"
DEFAULT_GROUP = "default"
"""The claim group of coordinators that were given none, and of sagas that were started before there were groups."""

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={"pk": "%(table_name)s_pkey", "ck": "%(table_name)s_%(constraint_name)s"},
)

_instant = DateTime(timezone=True)
_identity = UUID(as_uuid=False)


def _namespace(*, primary_key: bool = False) -> Column[str]:
    """The column of the namespace of a table's rows. Rows from before namespaces are in the default namespace."""
    return Column(
        "namespace", Text, primary_key=primary_key, nullable=False, server_default=DEFAULT_NAMESPACE
    )


def _key_id() -> Column[str]:
    """The column of the key that a row's bytes are encrypted with; null for canonical JSON, as in all rows so far."""
    return Column("key_id", _identity)


definitions = Table(
    "definitions",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("registered_at", _instant, nullable=False, server_default=func.now()),
    Column("deprecated", Boolean, nullable=False, server_default=false()),
    # The latest default of a name counts, so that choosing another changes only one row.
    Column("default_since", _instant),
    # A deleted version stays as a row: its number must never mean something else, and a saga may have been faster.
    Column("deleted_at", _instant),
    CheckConstraint("version >= 1", name="version_positive"),
    CheckConstraint(
        "default_since IS NULL OR (NOT deprecated AND deleted_at IS NULL)", name="default_can_be_started"
    ),
)

start_keys = Table(
    "start_keys",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("start_key", Text, primary_key=True),
    Column("saga_id", _identity, nullable=False),
    Column("request_digest", LargeBinary, nullable=False),
)

sagas = Table(
    "sagas",
    metadata,
    Column("saga_id", _identity, primary_key=True),
    Column("start_key", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("input", JSONB),
    Column("labels", JSONB, nullable=False),
    Column("failure", JSONB),
    Column("remaining", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("owner", _identity),
    Column("wake_at", _instant),
    Column("deadline_at", _instant),
    Column("started_at", _instant, nullable=False, server_default=func.now()),
    Column("ended_at", _instant),
    # The group whose coordinators drive the saga, because they know where its participants live.
    Column("claim_group", Text, nullable=False, server_default=DEFAULT_GROUP),
    _namespace(),
    # The failure as canonical bytes. `failure` and `input` are in rows of 0.1.0 only: a saga's input is in its first entry.
    Column("cause", LargeBinary),
    _key_id(),
    CheckConstraint("failure IS NULL OR cause IS NULL", name="failure_has_one_form"),
    CheckConstraint(
        "status IN ('RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'NEEDS_ATTENTION', 'ABANDONED')",
        name="status_known",
    ),
    # P1: a saga that is not settled is driven by somebody, or will be at a known time.
    CheckConstraint(
        "status NOT IN ('RUNNING', 'COMPENSATING') OR owner IS NOT NULL OR wake_at IS NOT NULL",
        name="moving_is_driven",
    ),
    CheckConstraint(
        "status IN ('RUNNING', 'COMPENSATING') OR (owner IS NULL AND wake_at IS NULL)",
        name="settled_is_at_rest",
    ),
    CheckConstraint(
        "(ended_at IS NOT NULL) = (status IN ('COMPLETED', 'COMPENSATED', 'ABANDONED'))",
        name="ended_has_time",
    ),
    # P2, P13: what is said to be done or undone leaves nothing behind.
    CheckConstraint(
        "status IN ('NEEDS_ATTENTION', 'ABANDONED') OR remaining = '{}'",
        name="only_the_unfinished_leave_effects",
    ),
)
Index(
    "sagas_of_group_due",
    sagas.c.claim_group,
    sagas.c.wake_at,
    postgresql_where=(sagas.c.owner.is_(None)) & (sagas.c.wake_at.is_not(None)),
)
Index("sagas_owned", sagas.c.owner, postgresql_where=sagas.c.owner.is_not(None))
Index("sagas_in_namespace", sagas.c.namespace, sagas.c.saga_id)
Index(
    "sagas_by_status",
    sagas.c.namespace,
    sagas.c.status,
    sagas.c.saga_id,
    postgresql_where=sagas.c.status != "COMPLETED",
)
# What was turned back lately, whenever it began.
Index(
    "sagas_turned_back",
    sagas.c.namespace,
    sagas.c.ended_at,
    postgresql_where=sagas.c.ended_at.is_not(None) & (sagas.c.status != "COMPLETED"),
)
Index("sagas_by_definition", sagas.c.namespace, sagas.c.definition, sagas.c.saga_id)
Index(
    "sagas_by_label",
    sagas.c.labels,
    postgresql_using="gin",
    postgresql_ops={"labels": "jsonb_path_ops"},
    postgresql_where=text("labels <> '{}'"),
)

log = Table(
    "log",
    metadata,
    Column("saga_id", _identity, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("step", Text),
    Column("operation", Text),
    Column("attempt", Integer, nullable=False),
    # All that an entry of 0.1.0 says. Later ones have `facts` and perhaps a `payload` instead: see `saga.machine.rows`.
    Column("body", JSONB),
    Column("recorded_at", _instant, nullable=False, server_default=func.now()),
    Column("recorded_by", _identity, nullable=False),
    _namespace(),
    Column("facts", LargeBinary),
    Column("payload", LargeBinary),
    _key_id(),
    Column("event", Text),
    Column("correlation", Text),
    Column("event_id", Text),
    CheckConstraint("(body IS NULL) <> (facts IS NULL)", name="has_one_form"),
    CheckConstraint("sequence >= 1", name="sequence_positive"),
    CheckConstraint("(sequence = 1) = (type = 'saga_started')", name="begins_with_start"),
    CheckConstraint("operation IN ('action', 'compensation')", name="operation_known"),
    CheckConstraint("(step IS NULL) = (operation IS NULL)", name="step_has_operation"),
)

coordinators = Table(
    "coordinators",
    metadata,
    Column("coordinator_id", _identity, primary_key=True),
    Column("lease_until", _instant, nullable=False),
    Column("address", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", _instant, nullable=False, server_default=func.now()),
    Column("claim_group", Text, nullable=False, server_default=DEFAULT_GROUP),
    # The newest revision of the schema that its program knows. It has no default, so no older program can take a lease.
    Column("schema_revision", Text, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("saga_id", _identity, primary_key=True),
    Column("request_id", _identity, primary_key=True),
    Column("input", LargeBinary, nullable=False),
    Column("answer", LargeBinary),
    Column("requested_at", _instant, nullable=False, server_default=func.now()),
    _namespace(),
    _key_id(),
)

Index("requests_unanswered", requests.c.requested_at, postgresql_where=requests.c.answer.is_(None))

workers = Table(
    "workers",
    metadata,
    Column("coordinator_id", _identity, primary_key=True),
    _namespace(primary_key=True),
    Column("participant", Text, primary_key=True),
    Column("methods", ARRAY(Text), nullable=False),
    Column("published_at", _instant, nullable=False, server_default=func.now()),
)

participants = Table(
    "participants",
    metadata,
    _namespace(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("descriptor_set", LargeBinary),
    # New with every change, so that a participant that was deleted and put again is noticed, too.
    Column("revision", _identity, nullable=False, server_default=func.gen_random_uuid()),
    Column("updated_at", _instant, nullable=False, server_default=func.now()),
)

declared_steps = Table(
    "declared_steps",
    metadata,
    _namespace(primary_key=True),
    Column("participant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("declared_at", _instant, nullable=False, server_default=func.now()),
)

breakers = Table(
    "breakers",
    metadata,
    _namespace(primary_key=True),
    Column("participant", Text, primary_key=True),
    Column("control", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("set_at", _instant, nullable=False, server_default=func.now()),
    CheckConstraint("control IN ('AUTOMATIC', 'OPEN', 'CLOSED')", name="control_known"),
)

events = Table(
    "events",
    metadata,
    _namespace(primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("correlation", Text, nullable=False),
    Column("payload", JSONB),
    Column("published_at", _instant, nullable=False, server_default=func.now()),
    Column("taken_at", _instant),
    Column("taken_by", _identity),
    Column("expires_at", _instant, nullable=False, server_default=text("now() + interval '7 days'")),
    # The payload as canonical bytes; `payload` is in rows of 0.1.0 only.
    Column("content", LargeBinary),
    _key_id(),
    CheckConstraint("taken_by IS NULL OR taken_at IS NOT NULL", name="taken_some_time"),
    CheckConstraint("payload IS NULL OR content IS NULL", name="payload_has_one_form"),
)
Index("events_by_correlation", events.c.namespace, events.c.name, events.c.correlation, events.c.published_at)
Index("events_by_age", events.c.published_at)
Index("events_in_namespace", events.c.namespace, events.c.published_at, events.c.event_id)
Index(
    "events_untaken",
    events.c.namespace,
    events.c.published_at,
    events.c.event_id,
    postgresql_where=events.c.taken_at.is_(None),
)
# The waits of 0.1.0.
Index(
    "log_waits",
    log.c.body["event"].astext,
    log.c.body["correlation"].astext,
    postgresql_where=text("type = 'wait_started' AND (body ->> 'correlation') IS NOT NULL"),
)
Index(
    "log_awaited",
    log.c.namespace,
    log.c.event,
    log.c.correlation,
    postgresql_where=text("type = 'wait_started' AND correlation IS NOT NULL"),
)

operator_acts = Table(
    "operator_acts",
    metadata,
    _namespace(primary_key=True),
    Column("act_id", _identity, primary_key=True),
    # An act that was refused may be done when it is asked again.
    Column("result", Text, primary_key=True),
    *(
        Column(name, Text, nullable=False)
        for name in (
            "verb",
            "subject_kind",
            "subject",
            "detail",
            "principal",
            "declared_by",
            "reason",
            "why",
            "state_before",
            "state_after",
        )
    ),
    Column("recorded_at", _instant, nullable=False, server_default=func.now()),
    CheckConstraint("result IN ('done', 'nothing', 'refused')", name="result_known"),
)
Index(
    "operator_acts_by_subject",
    operator_acts.c.namespace,
    operator_acts.c.subject_kind,
    operator_acts.c.subject,
    operator_acts.c.act_id,
)
