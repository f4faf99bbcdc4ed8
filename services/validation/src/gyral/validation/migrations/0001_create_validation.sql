-- Each offset of a consumed topic is once in the lake, or in exactly one of quarantine, duplicate and marker.
CREATE TABLE quarantine (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    "offset"       bigint      NOT NULL,
    stream         text        NOT NULL,
    record_key     text        NOT NULL,
    schema_version bigint,
    reason         text        NOT NULL,
    detail         text        NOT NULL,
    kafka_key      bytea,
    value          bytea       NOT NULL,
    header_names   text[]      NOT NULL,
    header_values  bytea[]     NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    replayed_at    timestamptz,
    UNIQUE (topic, partition, "offset")
);

CREATE INDEX quarantine_stream ON quarantine (stream, id);

CREATE TABLE quarantine_replay (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream      text        NOT NULL,
    rows        bigint[]    NOT NULL,
    actor       text        NOT NULL,
    replayed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE duplicate (
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    stream     text        NOT NULL,
    record_key text        NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);

CREATE TABLE marker (
    topic         text    NOT NULL,
    partition     integer NOT NULL,
    "offset"      bigint  NOT NULL,
    subject       text    NOT NULL,
    event_time_us bigint  NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);

-- Accepted rows by (stream, key), for as long as another of the same key may come.
CREATE TABLE record_identity (
    stream        text        NOT NULL,
    record_key    text        NOT NULL,
    digest        bytea       NOT NULL,
    event_time_us bigint      NOT NULL,
    revision      integer     NOT NULL,
    seen_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, record_key)
);

CREATE INDEX record_identity_age ON record_identity (stream, event_time_us);

CREATE TABLE prediction_identity (
    request_id uuid        NOT NULL,
    role       text        NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (request_id, role)
);

CREATE INDEX prediction_identity_age ON prediction_identity (seen_at);

-- How far event time has come, by partition; and by stream, what of it was told to others.
CREATE TABLE partition_time (
    stream    text    NOT NULL,
    partition integer NOT NULL,
    data_us   bigint,
    marker_us bigint,
    idle_us   bigint,
    PRIMARY KEY (stream, partition)
);

CREATE TABLE stream_progress (
    stream        text   PRIMARY KEY,
    watermark_us  bigint,
    forward_us    bigint,
    forwarded_us  bigint,
    table_version bigint,
    rows          bigint NOT NULL DEFAULT 0,
    quarantined   bigint NOT NULL DEFAULT 0,
    duplicates    bigint NOT NULL DEFAULT 0
);

CREATE TABLE dataset (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream       text        NOT NULL,
    version      bigint      NOT NULL,
    watermark_us bigint      NOT NULL,
    rows         bigint      NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX dataset_stream ON dataset (stream, id);
