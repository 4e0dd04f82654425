"""The static leaderboard: what the store knows of some suites, as a folder of pages that need nothing but a browser.

One pipeline, and only its two ends touch the world::

    store ─ entries.read ─► Board ─ render.render ─► {relative path: text} ─ render.write ─► site/

`board` has the records in between; `ranking` compares the entries of a split. `index_page` and `model_page` turn
numbers into the rows that templates print (`standings`, `facts`, `matrix`, `parts`, `formats` and `charts` help them).
Rendering is pure: the same store gives the same bytes.
"""
