"""Between the contract's messages and the words of the core."""
