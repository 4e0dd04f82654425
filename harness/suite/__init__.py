"""A suite file: its schema, its checks, and the rules it states."""
