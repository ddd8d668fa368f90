"""Definitions as the server holds them: registered, read once, kept, and compared with what their participants describe."""
