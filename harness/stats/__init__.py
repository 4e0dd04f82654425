"""Metrics, slices, intervals, tests and sample sizes over plain arrays."""
