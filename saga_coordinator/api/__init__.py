"""The gRPC edge: each service reads a request whole, asks the engine, the catalog or the store, and shows what came of it.

`answering` goes around each method and says who calls. The file of a service has a method for each RPC, the `readers` check what
callers send, `status` turns errors into `google.rpc.Status`, and `pages` makes page tokens. What answers look like is in `views`.
"""
