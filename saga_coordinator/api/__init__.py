"""The gRPC edge: requests in, checked whole; engine and store asked; answers and errors out.

`server` listens, `rpc` wraps each method once, `definition_service` and `saga_service` hold one method per RPC, `requests` checks
what callers send, `convert` turns records into messages, `status` errors into `google.rpc.Status`, `pages` makes page tokens.
"""
