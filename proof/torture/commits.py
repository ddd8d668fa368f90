"""Commits that fail in the real Postgres, for a while: constraints that are checked when everything else has succeeded."""

from __future__ import annotations

import psycopg

# Asked for each row at the commit. As rarely as `one_in` says, so that sagas fail in the middle and others beside them do not.
_SET_UP = """
CREATE SCHEMA torture;
CREATE FUNCTION torture.refuse_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() * TG_ARGV[0]::float8 < 1 THEN
        RAISE EXCEPTION 'refused at the commit, for torture' USING ERRCODE = TG_ARGV[1];
    END IF;
    RETURN NULL;
END $$;
"""
_BEGIN = """
CREATE CONSTRAINT TRIGGER torture_commits AFTER INSERT ON saga.log DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION torture.refuse_commit('{one_in}', '{code}')
"""
_END = "DROP TRIGGER IF EXISTS torture_commits ON saga.log"
_CODES = ("53100", "40001", "58030")
"""A full disk, a serialization failure, a disk that cannot be written: all of them pass."""


def prepare(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_SET_UP)


def begin(database_url: str, size: float) -> bool:
    """From now on some commits to the log fail; False when Postgres is away."""
    code = _CODES[int(size * len(_CODES))]
    return _change(database_url, _BEGIN.format(one_in=1 + int(30 * size), code=code))


def end(database_url: str) -> bool:
    """From now on all succeed again; False when Postgres is away."""
    return _change(database_url, _END)


def _change(database_url: str, statement: str) -> bool:
    try:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(statement)
    except psycopg.OperationalError:
        return False
    return True
