"""The catalog's parts, each on a database of the test's own, as the store's."""

from tests.integration.store.conftest import database, fragile, lists, proxy, query

__all__ = ["database", "fragile", "lists", "proxy", "query"]
