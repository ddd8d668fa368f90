"""Calls participants that have an inbound port: by the contract or by plain methods, with limits that keep calls apart."""
