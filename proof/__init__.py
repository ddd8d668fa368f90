"""What searches for the faults that no example shows: the simulation, torture, and the broken variants that both must catch."""
