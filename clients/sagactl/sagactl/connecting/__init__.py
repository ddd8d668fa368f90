"""Reaching a server: contexts, flags and variables become one connection, and a connection becomes a channel."""
