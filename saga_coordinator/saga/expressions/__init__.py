"""CEL as definitions use it: its syntax, what a calculation costs, references, conditions and templates."""
