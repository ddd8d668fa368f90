"""Definitions, sagas with their log, and the coordinators that own them."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE saga.definitions (
        namespace text NOT NULL,
        name text NOT NULL,
        version integer NOT NULL,
        digest text NOT NULL,
        spec jsonb NOT NULL,
        registered_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT definitions_pkey PRIMARY KEY (namespace, name, version),
        CONSTRAINT definitions_version_positive CHECK (version >= 1)
    )
    """,
    """
    CREATE TABLE saga.start_keys (
        namespace text NOT NULL,
        start_key text NOT NULL,
        saga_id uuid NOT NULL,
        request_digest bytea NOT NULL,
        CONSTRAINT start_keys_pkey PRIMARY KEY (namespace, start_key)
    )
    """,
    """
    CREATE TABLE saga.sagas (
        saga_id uuid NOT NULL,
        start_key text NOT NULL,
        definition text NOT NULL,
        version integer NOT NULL,
        status text NOT NULL,
        input jsonb,
        labels jsonb NOT NULL,
        failure jsonb,
        remaining text[] NOT NULL DEFAULT '{}',
        owner uuid,
        wake_at timestamptz,
        deadline_at timestamptz,
        started_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        CONSTRAINT sagas_pkey PRIMARY KEY (saga_id),
        CONSTRAINT sagas_status_known CHECK (
            status IN ('RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'NEEDS_ATTENTION', 'ABANDONED')),
        CONSTRAINT sagas_moving_is_driven CHECK (
            status NOT IN ('RUNNING', 'COMPENSATING') OR owner IS NOT NULL OR wake_at IS NOT NULL),
        CONSTRAINT sagas_settled_is_at_rest CHECK (
            status IN ('RUNNING', 'COMPENSATING') OR (owner IS NULL AND wake_at IS NULL)),
        CONSTRAINT sagas_ended_has_time CHECK (
            (ended_at IS NOT NULL) = (status IN ('COMPLETED', 'COMPENSATED', 'ABANDONED'))),
        CONSTRAINT sagas_only_the_unfinished_leave_effects CHECK (
            status IN ('NEEDS_ATTENTION', 'ABANDONED') OR remaining = '{}')
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX sagas_unowned_due ON saga.sagas (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL",
    "CREATE INDEX sagas_owned ON saga.sagas (owner) WHERE owner IS NOT NULL",
    "CREATE INDEX sagas_by_status ON saga.sagas (status, saga_id) WHERE status <> 'COMPLETED'",
    "CREATE INDEX sagas_by_definition ON saga.sagas (definition, saga_id)",
    "CREATE INDEX sagas_by_label ON saga.sagas USING gin (labels jsonb_path_ops) WHERE labels <> '{}'",
    """
    CREATE TABLE saga.log (
        saga_id uuid NOT NULL,
        sequence integer NOT NULL,
        type text NOT NULL,
        step text,
        operation text,
        attempt integer NOT NULL,
        body jsonb NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        recorded_by uuid NOT NULL,
        CONSTRAINT log_pkey PRIMARY KEY (saga_id, sequence),
        CONSTRAINT log_sequence_positive CHECK (sequence >= 1),
        CONSTRAINT log_begins_with_start CHECK ((sequence = 1) = (type = 'saga_started')),
        CONSTRAINT log_operation_known CHECK (operation IN ('action', 'compensation')),
        CONSTRAINT log_step_has_operation CHECK ((step IS NULL) = (operation IS NULL))
    )
    """,
    """
    CREATE FUNCTION saga.refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'entries of saga.log are never changed' USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE TRIGGER log_is_append_only BEFORE UPDATE ON saga.log
        FOR EACH STATEMENT EXECUTE FUNCTION saga.refuse_update()
    """,
    """
    CREATE TABLE saga.coordinators (
        coordinator_id uuid NOT NULL,
        lease_until timestamptz NOT NULL,
        address text NOT NULL,
        version text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT coordinators_pkey PRIMARY KEY (coordinator_id)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE saga.requests (
        saga_id uuid NOT NULL,
        request_id uuid NOT NULL,
        input jsonb NOT NULL,
        answer jsonb,
        requested_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT requests_pkey PRIMARY KEY (saga_id, request_id)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
