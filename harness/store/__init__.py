"""Every run's predictions and metrics, with the digests of all that went in, in one DuckDB file.

The only importer of duckdb. `connection.opened` opens the file for as long as a `with` block lasts, briefly, so that
evaluations, gates and people with a shell can take turns; `writer` puts records in, `reader` gets records out. The
tables are in `migrations/`, and every metric can be recomputed in SQL from `prediction` joined with `example`.
"""
