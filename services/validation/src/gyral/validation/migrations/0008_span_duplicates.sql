-- Repeated rows by ranges: of each offset of a span, these rows. Where everything repeats, one
-- entry stands for a batch. What a topic no longer holds is forgotten.
CREATE TABLE duplicate_span (
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    first_offset bigint      NOT NULL,
    last_offset  bigint      NOT NULL,
    first_row    integer     NOT NULL,
    last_row     integer     NOT NULL,
    stream       text        NOT NULL,
    counted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, first_offset, first_row),
    CHECK (first_offset <= last_offset AND first_row <= last_row)
);

CREATE INDEX duplicate_span_age ON duplicate_span (counted_at);

INSERT INTO duplicate_span (topic, partition, first_offset, last_offset, first_row, last_row, stream)
SELECT topic, partition, "offset", "offset", min(row), max(row), stream
  FROM (SELECT *, row - row_number() OVER (
                      PARTITION BY topic, partition, "offset", stream ORDER BY row) AS island
          FROM duplicate) AS known
 GROUP BY topic, partition, "offset", stream, island;

DROP TABLE duplicate;
-- A row each, as the audit compares them.
CREATE VIEW duplicate AS
SELECT topic, partition, "offset", row, stream
  FROM duplicate_span,
       generate_series(first_offset, last_offset) AS "offset",
       generate_series(first_row, last_row) AS row;
