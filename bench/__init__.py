"""Measurements of the whole program: real processes, real Postgres with fsync on, every step durable."""
