CREATE TABLE split (
    split_id VARCHAR NOT NULL,
    digest   VARCHAR NOT NULL,
    suite    VARCHAR NOT NULL,   -- the suite that first brought it
    source   JSON NOT NULL,      -- the rule that made it
    n        INTEGER NOT NULL,
    PRIMARY KEY (split_id, digest)
);

CREATE TABLE example (
    digest      VARCHAR NOT NULL,   -- of its split
    example_id  VARCHAR NOT NULL,
    position    INTEGER NOT NULL,
    label       TINYINT NOT NULL CHECK (label IN (0, 1)),
    cluster     VARCHAR,
    text_digest VARCHAR NOT NULL,
    title       VARCHAR,            -- title and content only where the suite says so
    content     VARCHAR,
    PRIMARY KEY (digest, example_id)
);

CREATE TABLE adapter (
    adapter_digest VARCHAR PRIMARY KEY,
    adapter_id     VARCHAR NOT NULL,
    method         VARCHAR NOT NULL,
    params         JSON NOT NULL,
    base_digest    VARCHAR NOT NULL,
    trained_on     VARCHAR NOT NULL,
    n_trainable    BIGINT NOT NULL,
    seed           BIGINT NOT NULL,
    train_seconds  DOUBLE NOT NULL,
    peak_bytes     BIGINT NOT NULL,
    size_bytes     BIGINT NOT NULL,
    card           JSON NOT NULL
);

CREATE TABLE run (
    run_id         VARCHAR PRIMARY KEY,
    run_key        VARCHAR NOT NULL,
    suite          VARCHAR NOT NULL,
    suite_digest   VARCHAR NOT NULL,
    split_id       VARCHAR NOT NULL,
    split_digest   VARCHAR NOT NULL,
    model_id       VARCHAR NOT NULL,
    configuration  VARCHAR NOT NULL,
    seed           BIGINT,
    adapter_digest VARCHAR,
    status         VARCHAR NOT NULL CHECK (status IN ('started', 'success', 'cancelled', 'error')),
    error          VARCHAR,
    spec           JSON NOT NULL,
    packages       JSON NOT NULL,
    hardware       JSON NOT NULL,
    git_commit     VARCHAR,
    git_dirty      BOOLEAN,
    started_at     TIMESTAMP NOT NULL,   -- UTC, as all times here
    finished_at    TIMESTAMP NOT NULL,
    seconds        DOUBLE,
    tokens         BIGINT,
    truncated      INTEGER
);

CREATE TABLE prediction (
    run_id     VARCHAR NOT NULL,
    example_id VARCHAR NOT NULL,
    predicted  TINYINT NOT NULL CHECK (predicted IN (0, 1)),
    score      DOUBLE NOT NULL CHECK (score BETWEEN 0 AND 1),
    PRIMARY KEY (run_id, example_id)
);

CREATE TABLE metric (
    run_id           VARCHAR NOT NULL,
    name             VARCHAR NOT NULL,
    value            DOUBLE,
    ci_low           DOUBLE,
    ci_high          DOUBLE,
    n                INTEGER NOT NULL,
    higher_is_better BOOLEAN NOT NULL,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE verdict (
    suite_digest VARCHAR NOT NULL,
    gate_id      VARCHAR NOT NULL,
    judged_at    TIMESTAMP NOT NULL,
    outcome      VARCHAR NOT NULL CHECK (outcome IN ('pass', 'fail', 'inconclusive')),
    numbers      JSON NOT NULL,
    PRIMARY KEY (suite_digest, gate_id, judged_at)
);

-- The latest success per run key.
CREATE VIEW leaderboard AS
SELECT * FROM run WHERE status = 'success'
QUALIFY row_number() OVER (PARTITION BY run_key ORDER BY finished_at DESC, run_id DESC) = 1;
