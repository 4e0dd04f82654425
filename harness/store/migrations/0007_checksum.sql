-- What a run's predictions were when they were stored. A run without a row was stored by an earlier release: unknown.
CREATE TABLE checksum (
    run_id      VARCHAR PRIMARY KEY,
    predictions VARCHAR NOT NULL   -- SHA-256: harness/store/checksum.py says of what
);
