"""Faster ways to the same scores, each with a switch and a test against the plain way."""
