"""Alembic's scripts: forward only. A released script never changes; the old program runs on the new schema."""
