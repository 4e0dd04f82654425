"""Reproducible training of adapters: the same declaration, rows, base and packages give the same weights."""
