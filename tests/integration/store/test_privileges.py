"""What a role lacks is said in one line, with what to grant; granting that is enough."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from saga_coordinator.store import schema
from saga_coordinator.store.privileges import NotPermitted


class Role:
    """A role of the test's own on one database, and the owner's way to grant it something."""

    def __init__(self, connection: psycopg.Connection, owner_dsn: str) -> None:
        self.name = f"role_{os.urandom(6).hex()}"
        self.dsn = f"postgresql://{self.name}:secret@{owner_dsn.rpartition('@')[2]}"
        self._connection = connection
        self.as_owner("CREATE ROLE {} LOGIN PASSWORD 'secret'")

    def as_owner(self, statement: str) -> None:
        self._connection.execute(sql.SQL(statement).format(sql.Identifier(self.name)))


def role_on(dsn: str) -> Iterator[Role]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        role = Role(connection, dsn)
        yield role
        role.as_owner("DROP OWNED BY {} CASCADE")
        role.as_owner("DROP ROLE {}")


@pytest.fixture
def role(database_dsn: str) -> Iterator[Role]:
    yield from role_on(database_dsn)


@pytest.fixture
def role_on_nothing(empty_database_dsn: str) -> Iterator[Role]:
    yield from role_on(empty_database_dsn)


def granted_by(message: str) -> list[str]:
    return re.findall(r"GRANT [^;]+", message)


def test_serving_says_what_to_grant_and_that_is_enough(role: Role) -> None:
    with pytest.raises(NotPermitted, match=f"the role {role.name} may not use all of schema saga") as refused:
        schema.check(role.dsn)
    grants = granted_by(str(refused.value))
    assert f"GRANT USAGE ON SCHEMA saga TO {role.name}" in grants
    assert (
        f"GRANT UPDATE ON saga.definitions, saga.sagas, saga.coordinators, saga.requests, saga.workers, "
        f"saga.events, saga.participants, saga.breakers, saga.declared_steps TO {role.name}" in grants
    )
    for grant in grants:
        role.as_owner(grant)
    schema.check(role.dsn)


def test_only_what_is_missing_is_named(role: Role) -> None:
    with pytest.raises(NotPermitted) as refused:
        schema.check(role.dsn)
    for grant in granted_by(str(refused.value)):
        role.as_owner(grant)
    role.as_owner("REVOKE INSERT ON saga.log FROM {}")
    with pytest.raises(NotPermitted) as refused:
        schema.check(role.dsn)
    assert granted_by(str(refused.value)) == [f"GRANT INSERT ON saga.log TO {role.name}"]


def test_migrating_says_what_to_grant_and_that_is_enough(role_on_nothing: Role) -> None:
    role = role_on_nothing
    with pytest.raises(NotPermitted, match="permission denied for database") as refused:
        schema.upgrade(role.dsn)
    (grant,) = granted_by(str(refused.value))
    role.as_owner(grant)
    schema.upgrade(role.dsn)
    schema.check(role.dsn)


def test_a_schema_made_by_an_administrator_needs_no_right_to_create_one(role_on_nothing: Role) -> None:
    role = role_on_nothing
    role.as_owner("CREATE SCHEMA saga AUTHORIZATION {}")
    schema.upgrade(role.dsn)
    schema.check(role.dsn)


def test_somebody_else_s_schema_is_migrated_by_its_owner(role_on_nothing: Role) -> None:
    role = role_on_nothing
    role.as_owner("CREATE SCHEMA saga")
    with pytest.raises(
        NotPermitted, match="permission denied for schema saga; migrate as postgres, which owns"
    ):
        schema.upgrade(role.dsn)
