"""`python -m saga_coordinator`: the program, where its script is not on the path."""

from saga_coordinator.cli import main

if __name__ == "__main__":
    main()
