"""The static leaderboard: stored runs of one or more suites, rendered as a folder of pages that need only a browser.

A single pipeline; only its two ends do I/O::

    store ─ entries.read ─► Board ─ render.render ─► {relative path: text} ─ render.write ─► site/

`board` has the records in between; `ranking` compares the entries of a split. `index_page` and `model_page` turn
numbers into the rows that templates print (`standings`, `facts`, `matrix`, `parts`, `formats` and `charts` help them).
Rendering is pure: the same store gives the same bytes.
"""
