"""The operator's command line of Saga Coordinator.

It knows the server's services, methods, messages and their comments only from the server's reflection, so a newer server's
methods are there at once.
"""

__version__ = "0.1.0"
