-- Scores of an example's text whole and without each of its pieces. Places of pieces, never their words.
CREATE TABLE occlusion (
    key          VARCHAR PRIMARY KEY,   -- digest of everything that the scores depend on
    run_key      VARCHAR NOT NULL,
    split_digest VARCHAR NOT NULL,
    example_id   VARCHAR NOT NULL,
    score        DOUBLE NOT NULL CHECK (score BETWEEN 0 AND 1),   -- of the whole text
    pieces       JSON NOT NULL,         -- of each its field (0 title, 1 content), start, end, and the score without it
    checksum     VARCHAR NOT NULL,      -- SHA-256: harness/store/checksum.py says of what
    explained_at TIMESTAMP NOT NULL     -- UTC
);
