"""Producing adapters, reproducibly: the same declaration, rows, base and packages give the same weights."""
