"""A saga coordinator with a gRPC interface: business transactions that span services, undone in reverse when they fail."""


def __getattr__(name: str) -> str:
    """`__version__`, read when it is asked for: looking an installed distribution up costs more than a health probe may."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("saga-coordinator")
    except PackageNotFoundError:  # running from a source tree that was never installed
        return "0.0.0"
