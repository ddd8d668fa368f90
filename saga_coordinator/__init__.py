"""A saga coordinator with a gRPC interface: business transactions that span services, undone in reverse when they fail."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("saga-coordinator")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"
