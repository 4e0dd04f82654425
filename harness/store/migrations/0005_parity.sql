-- How a form of a trained model (another precision, another runtime) answers beside its reference.
CREATE TABLE parity (
    parity_key     VARCHAR PRIMARY KEY,   -- digest of `spec`
    adapter_digest VARCHAR NOT NULL,
    adapter_id     VARCHAR NOT NULL,
    seed           BIGINT,
    form           VARCHAR NOT NULL,      -- torch bf16, openvino int8, …
    n              INTEGER NOT NULL,
    flips          INTEGER,               -- NULL, as the next three, where the form could not be asked
    flips_low      DOUBLE,
    flips_high     DOUBLE,
    largest_move   DOUBLE,                -- of a log-odds
    flips_allowed  DOUBLE NOT NULL,
    move_allowed   DOUBLE NOT NULL,
    passed         BOOLEAN NOT NULL,
    problem        VARCHAR,
    spec           JSON NOT NULL,
    hardware       JSON NOT NULL,
    checked_at     TIMESTAMP NOT NULL     -- UTC
);
