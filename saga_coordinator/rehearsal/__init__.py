"""Rehearses what a definition would do at every failure of every step, with the core that serves. The server never imports it."""
