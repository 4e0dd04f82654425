"""Drafts of suites, from the files at hand."""
