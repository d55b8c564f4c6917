"""Connections: addresses, clients, clusters, the embedded server, faults that pass."""
