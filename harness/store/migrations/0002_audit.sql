-- What `harness data` last found in the splits of a suite file; a row per split and question.
CREATE TABLE audit (
    suite_digest VARCHAR NOT NULL,
    split_id     VARCHAR NOT NULL,
    split_digest VARCHAR NOT NULL,
    name         VARCHAR NOT NULL,   -- balance, exact_duplicates, overlap, …
    value        JSON NOT NULL,
    audited_at   TIMESTAMP NOT NULL, -- the same for all rows of one audit
    PRIMARY KEY (suite_digest, split_id, name)
);
