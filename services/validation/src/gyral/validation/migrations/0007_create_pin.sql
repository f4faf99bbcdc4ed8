-- Versions of tables that must stay readable: those a run was trained on. Whatever was announced
-- before anybody looked counts as one.
CREATE TABLE pin (
    stream  text   NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (stream, version)
);
INSERT INTO pin SELECT DISTINCT stream, version FROM dataset;
