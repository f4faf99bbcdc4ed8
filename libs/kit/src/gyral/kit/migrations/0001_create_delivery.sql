-- What makes an event's effect happen once: what was handled, what is yet to be sent, how far a sink got.
CREATE TABLE inbox (
    consumer   text        NOT NULL,
    event_id   text        NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);

CREATE TABLE outbox (
    shard         smallint    NOT NULL,
    seq           bigint      GENERATED ALWAYS AS IDENTITY,
    event_id      text        NOT NULL UNIQUE,
    topic         text        NOT NULL,
    key           bytea,
    header_names  bytea[]     NOT NULL,
    header_values bytea[]     NOT NULL,
    value         bytea,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE sink_offset (
    sink        text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL CHECK (next_offset >= 0),
    moved_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition)
);
