"""The record of what people decided: added to, and never changed."""

from alembic import op

revision = "0011"
down_revision = "0010"

_STATEMENTS = (
    """
    CREATE TABLE saga.operator_acts (
        namespace text NOT NULL DEFAULT 'default',
        act_id uuid NOT NULL,
        verb text NOT NULL,
        subject_kind text NOT NULL,
        subject text NOT NULL,
        detail text NOT NULL,
        principal text NOT NULL,
        declared_by text NOT NULL,
        reason text NOT NULL,
        result text NOT NULL,
        why text NOT NULL,
        state_before text NOT NULL,
        state_after text NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT operator_acts_pkey PRIMARY KEY (namespace, act_id, result),
        CONSTRAINT operator_acts_result_known CHECK (result IN ('done', 'nothing', 'refused'))
    )
    """,
    "CREATE INDEX operator_acts_by_subject ON saga.operator_acts (namespace, subject_kind, subject, act_id)",
    """
    CREATE FUNCTION saga.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'saga.% is only added to', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER operator_acts_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON saga.operator_acts
        FOR EACH STATEMENT EXECUTE FUNCTION saga.refuse_change()
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
