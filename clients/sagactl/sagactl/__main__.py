"""`python -m sagactl`."""

from sagactl.program import main

main()
