"""A definition: its model, how it is read and checked, and how two of them differ."""
