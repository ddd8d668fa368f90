"""Housekeeping: work that has to be done now and then, and that no saga waits for.

Each kind of work is a *chore* (`chores.Chore`): it has a name, how often it is done, and what to do. `chores.Housekeeping` keeps
a list of chores going, each by itself, so that a chore that hangs or fails delays nothing else. To add a chore, write a module
here that makes it, and name it in the list of `coordinator.py`.
"""
