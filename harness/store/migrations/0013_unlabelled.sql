-- Examples may have no label, which is -1.
CREATE TABLE labelled (
    digest      VARCHAR NOT NULL,   -- of its split
    example_id  VARCHAR NOT NULL,
    position    INTEGER NOT NULL,
    label       TINYINT NOT NULL CHECK (label IN (-1, 0, 1)),
    cluster     VARCHAR,
    text_digest VARCHAR NOT NULL,
    title       VARCHAR,            -- title and content only where the suite says so
    content     VARCHAR,
    PRIMARY KEY (digest, example_id)
);
INSERT INTO labelled SELECT digest, example_id, position, label, cluster, text_digest, title, content
FROM example ORDER BY rowid;
DROP TABLE example;
ALTER TABLE labelled RENAME TO example;
