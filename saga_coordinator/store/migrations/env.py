"""Runs the migrations on the connection that `store.schema` hands over."""

from alembic import context
from sqlalchemy import text

from saga_coordinator.store.tables import SCHEMA, metadata

connection = context.config.attributes["connection"]
# Not IF NOT EXISTS: that takes the right to create one also where an administrator has made it for us.
if connection.execute(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is None:
    connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table="schema_version",
    version_table_schema=SCHEMA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
