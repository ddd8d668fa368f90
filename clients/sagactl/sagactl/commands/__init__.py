"""The commands, a module for each group. None imports gRPC before it asks a server, so that help and completion are quick."""
