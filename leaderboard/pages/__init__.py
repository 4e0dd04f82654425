"""The rows and texts that templates print, page by page."""
