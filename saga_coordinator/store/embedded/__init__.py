"""A Postgres server that a program starts for itself: for `saga-coordinator dev`, the demo and the tests.

`find_binaries` finds real binaries of Postgres. This package starts them so that nothing has to be cleaned up
afterwards, whoever starts them and however that process ends:

- The server dies with the process that started it, also by SIGKILL. It does not see the terminal's Ctrl-C.
- As root, which Postgres refuses to run as, it runs in a user namespace where root is called nobody; where
  those are forbidden, as another user who then owns the data. No user is added, no permission widened.
- It listens on 127.0.0.1 only and asks for a password, made on first use and kept beside the data, readable
  by its owner only. In the data directory is a socket too, when its path is short enough for one.

This package imports only the standard library, because a Python without our dependencies may run it: that of an ordinary
user, say, who may not read root's packages. Only `watch`, which keeps a server running for a program, needs them.

A data directory holds `cluster/` (Postgres's own), `server.log` (of the last start; of the one before,
`server.log.1`), `password`, and `lock`, which is held by whatever process of the server is left.
"""

from saga_coordinator.store.embedded.binaries import EmbeddedPostgresError, find_binaries
from saga_coordinator.store.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "find_binaries"]
