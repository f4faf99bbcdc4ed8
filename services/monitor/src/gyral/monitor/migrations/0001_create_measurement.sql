-- What the monitor owns. Event times are microseconds since 1970 UTC, as the log carries them.
CREATE TABLE champion (
    model        text        NOT NULL,
    generation   integer     NOT NULL,
    version      integer     NOT NULL,
    as_of_us     bigint      NOT NULL,
    profile      bytea,
    PRIMARY KEY (model, generation)
);

CREATE TABLE watermark (
    topic        text        NOT NULL,
    subject      text        NOT NULL,
    partition    integer     NOT NULL,
    event_us     bigint      NOT NULL,
    PRIMARY KEY (topic, subject, partition)
);

-- One live answer of a block that is still open; redeliveries meet the primary key.
CREATE TABLE prediction (
    model        text        NOT NULL,
    request_id   uuid        NOT NULL,
    row          integer     NOT NULL,
    version      integer     NOT NULL,
    entity       text,
    event_us     bigint      NOT NULL,
    answered_us  bigint      NOT NULL,
    probability  float8      NOT NULL,
    PRIMARY KEY (model, request_id, row)
);
CREATE INDEX prediction_time ON prediction (model, event_us);

-- Rows per cell of the version's reference bins; counts of the same block add up.
CREATE TABLE histogram (
    model        text        NOT NULL,
    version      integer     NOT NULL,
    block_us     bigint      NOT NULL,
    counts       bigint[]    NOT NULL,
    PRIMARY KEY (model, version, block_us)
);

-- Features of a version whose reference was not known when they came: counted at the close.
CREATE TABLE unbinned (
    model        text        NOT NULL,
    version      integer     NOT NULL,
    block_us     bigint      NOT NULL,
    request_id   uuid        NOT NULL,
    rows         integer[]   NOT NULL,
    features     bytea       NOT NULL,
    PRIMARY KEY (model, version, block_us, request_id)
);

CREATE TABLE label (
    source       text        NOT NULL,
    entity       text        NOT NULL,
    key          text        NOT NULL,
    revision     bigint      NOT NULL,
    event_us     bigint      NOT NULL,
    seen_us      bigint      NOT NULL,
    number       float8,
    text         text,
    PRIMARY KEY (source, entity, key, revision)
);
CREATE INDEX label_time ON label (source, event_us);

CREATE TABLE watched (
    model            text    PRIMARY KEY,
    closed_until_us  bigint  NOT NULL,
    schedule_from_us bigint,
    generation       integer,
    detectors        jsonb
);

CREATE TABLE measurement (
    model         text       NOT NULL,
    start_us      bigint     NOT NULL,
    end_us        bigint     NOT NULL,
    version       integer    NOT NULL,
    rows          integer    NOT NULL,
    labelled_rows integer    NOT NULL,
    measures      jsonb      NOT NULL,
    worst_feature text,
    PRIMARY KEY (model, start_us)
);

CREATE TABLE request (
    request_id   uuid        PRIMARY KEY,
    model        text        NOT NULL,
    as_of_us     bigint      NOT NULL,
    cause        text        NOT NULL,
    evidence     jsonb       NOT NULL
);
CREATE INDEX request_of_block ON request (model, as_of_us);

CREATE TABLE alarm (
    model        text        NOT NULL,
    start_us     bigint      NOT NULL,
    detector     text        NOT NULL,
    version      integer     NOT NULL,
    measured     float8      NOT NULL,
    threshold    float8      NOT NULL,
    feature      text,
    request_id   uuid,
    PRIMARY KEY (model, start_us, detector)
);
