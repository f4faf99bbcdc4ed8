-- Accepted rows as sorted columns, a row of this table for many of theirs: written with the
-- offsets, searched in memory. What record_identity remembers is not taken over.
CREATE TABLE identity_segment (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream    text        NOT NULL,
    partition integer     NOT NULL,
    rows      integer     NOT NULL,
    newest_us bigint      NOT NULL,
    columns   bytea       NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE identity_segment ALTER COLUMN columns SET STORAGE EXTERNAL;

CREATE INDEX identity_segment_place ON identity_segment (stream, partition, id);

DROP TABLE record_identity;

-- A Kafka record may hold many rows.
ALTER TABLE quarantine ADD COLUMN row integer NOT NULL DEFAULT 0;
ALTER TABLE quarantine DROP CONSTRAINT quarantine_topic_partition_offset_key;
ALTER TABLE quarantine ADD UNIQUE (topic, partition, "offset", row);
ALTER TABLE duplicate ADD COLUMN row integer NOT NULL DEFAULT 0;
ALTER TABLE duplicate DROP CONSTRAINT duplicate_pkey;
ALTER TABLE duplicate ADD PRIMARY KEY (topic, partition, "offset", row);
