"""JSON Schemas of inputs: the keywords that count, the cost of checking an input, and the differences between two schemas."""
