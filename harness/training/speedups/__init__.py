"""Faster ways to the same training, each with a switch and a test against the plain way."""
