"""The static leaderboard: stored runs of one or more suites, rendered as a folder of pages that need only a browser.

A single pipeline; only its two ends do I/O::

    store ─ board.read ─► Board ─ site.render ─► {relative path: text} ─ render.write ─► site/

`board` has the records in between, and compares the entries of a split. `pages` turns numbers into the rows that
templates print, `plots` into drawings. Rendering is pure: the same store gives the same bytes.
"""
