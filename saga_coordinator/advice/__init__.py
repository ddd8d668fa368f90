"""Says what a definition means and where it is weak: drawings, explanations in words, and lint. The server never imports it."""
