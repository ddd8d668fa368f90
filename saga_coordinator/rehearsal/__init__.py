"""What a definition would do: every failure of every step, decided by the core of production. The server never imports it."""
