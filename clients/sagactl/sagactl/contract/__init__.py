"""The server's contract, as the server itself describes it: services, methods, messages, comments and values."""
