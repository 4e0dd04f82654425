-- The index of (run_id, example_id) was over half of a store. The writer takes a run's predictions only if they are one
-- for each example of its split, in the transaction in which `run_id` becomes a key of `run`; `store verify` looks again.
CREATE TABLE bare (
    run_id     VARCHAR NOT NULL,
    example_id VARCHAR NOT NULL,
    predicted  TINYINT NOT NULL CHECK (predicted IN (0, 1)),
    score      DOUBLE NOT NULL CHECK (score BETWEEN 0 AND 1)
);
INSERT INTO bare SELECT run_id, example_id, predicted, score FROM prediction ORDER BY rowid;
DROP TABLE prediction;
ALTER TABLE bare RENAME TO prediction;
