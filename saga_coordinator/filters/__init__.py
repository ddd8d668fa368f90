"""The one language that selects sagas: a subset of CEL. Filters are parsed and checked here, and evaluated in memory.

    wanted = parse_filter('status == "NEEDS_ATTENTION" && age > duration("1h")')
    matches(wanted, facts, now)

The store compiles the same conditions to SQL (`store/filtering.py`), and a test holds the two against each other.
"""
