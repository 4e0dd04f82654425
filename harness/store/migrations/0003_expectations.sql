-- Timings may be compared within one call of `harness evaluate`.
DROP VIEW leaderboard;
ALTER TABLE run ADD COLUMN evaluation_id VARCHAR;

-- The latest success per run key.
CREATE VIEW leaderboard AS
SELECT * FROM run WHERE status = 'success'
QUALIFY row_number() OVER (PARTITION BY run_key ORDER BY finished_at DESC, run_id DESC) = 1;

-- What a suite's authors expect, and when this store first saw it: before or after the runs that answer it.
CREATE TABLE expectation (
    digest        VARCHAR PRIMARY KEY,   -- of the rule and the rows of its split
    suite         VARCHAR NOT NULL,
    rule          VARCHAR NOT NULL,      -- in words, as a gate's id is
    first_seen_at TIMESTAMP NOT NULL,    -- UTC
    git_commit    VARCHAR
);
