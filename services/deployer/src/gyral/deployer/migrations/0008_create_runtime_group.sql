-- How many runtimes each group is to have, since when and why; what makes them follows.
CREATE TABLE runtime_group (
    name         text        PRIMARY KEY,
    replicas     integer     NOT NULL CHECK (replicas BETWEEN 0 AND 100),
    why          text        NOT NULL,
    since        timestamptz NOT NULL
);
