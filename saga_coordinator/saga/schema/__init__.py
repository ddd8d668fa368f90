"""JSON Schemas of inputs: which keywords count, what checking one costs, and what differs between two."""
