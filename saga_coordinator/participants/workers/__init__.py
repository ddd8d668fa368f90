"""Reaches participants that connect by a stream: the pool, the streams, their tasks, and forwarding."""
