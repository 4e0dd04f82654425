"""Every run's predictions and metrics, with the digests of all inputs, in one DuckDB file.

Only this package imports duckdb. `connection.opened` opens the file briefly, for the length of a `with` block, so that
evaluations, gates and people with a shell can take turns; `writer` stores records, `reader` reads them. The tables are
in `migrations/`, and every metric can be recomputed in SQL from `prediction` joined with `example`.
"""
