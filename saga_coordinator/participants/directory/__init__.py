"""The directory: where each named participant lives, how it is reached, and which methods it describes."""
