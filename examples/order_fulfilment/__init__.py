"""Order fulfilment: a saga of three steps across three services, and a driver that shows what becomes of it.

The services are `inventory`, `payments` and `shipping`; each runs on its own, with its own tables. What makes
them safe to call again is in `guard`. The driver is `demo`.
"""
