-- How far adapted encoders moved from their bases, on a sample of a split's texts.
CREATE TABLE forgetting (
    key            VARCHAR NOT NULL,   -- digest of all that the number depends on
    adapter_digest VARCHAR NOT NULL,
    split_digest   VARCHAR NOT NULL,
    name           VARCHAR NOT NULL,   -- similarity, mlm_loss, mlm_loss_of_base
    value          DOUBLE NOT NULL,
    ci_low         DOUBLE,
    ci_high        DOUBLE,
    n              INTEGER NOT NULL,   -- texts
    measured_at    TIMESTAMP NOT NULL, -- UTC
    PRIMARY KEY (key, name)
);
