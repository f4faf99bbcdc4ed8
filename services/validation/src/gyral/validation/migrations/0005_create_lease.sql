-- Who rewrites a table's files; a holder that vanished keeps its name until then.
CREATE TABLE lease (
    name  text        PRIMARY KEY,
    until timestamptz NOT NULL
);
