"""The core alone: random definitions in a random world, an oracle that watches, and broken cores that it must catch."""
