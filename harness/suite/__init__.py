"""Suite files: their schema, their checks, and the rules they state."""
