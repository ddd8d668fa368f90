"""The state machine: entries, the transition table, the fold, and what is decided from it."""
