"""`python -m sagactl`."""

from sagactl.entry import main

main()
