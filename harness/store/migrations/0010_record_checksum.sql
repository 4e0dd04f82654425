-- What was recorded of a run when it was stored: its row, its metrics and its predictions' checksum. NULL: stored by an
-- earlier release, unknown.
ALTER TABLE checksum ADD COLUMN record VARCHAR;   -- SHA-256: harness/store/checksum.py says of what
