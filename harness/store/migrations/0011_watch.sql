-- Models scored at one commit after another, each compared with a baseline on the same rows, in the order of the commits.
CREATE TABLE watch (
    series     VARCHAR NOT NULL,   -- digest of the baseline's runs, the model, the rows and the metric
    position   INTEGER NOT NULL,   -- from 0
    suite      VARCHAR NOT NULL,
    baseline   VARCHAR NOT NULL,
    model_id   VARCHAR NOT NULL,
    split_id   VARCHAR NOT NULL,
    metric     VARCHAR NOT NULL,
    weights    VARCHAR NOT NULL,   -- digest of the weights, or of the answers of a model without any
    git_commit VARCHAR,
    value      DOUBLE NOT NULL,    -- difference from the baseline, positive where it is better
    watched_at TIMESTAMP NOT NULL, -- UTC
    PRIMARY KEY (series, position)
);
