-- What the trainer owns: every request with its one outcome, runs, and how far the datasets are.
CREATE TABLE request (
    request_id   uuid        PRIMARY KEY,
    model        text        NOT NULL,
    cause        text        NOT NULL,
    as_of        timestamptz NOT NULL,
    why          text,
    detail       text,
    run_id       uuid        UNIQUE,
    decided_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((run_id IS NULL) <> (why IS NULL))
);

CREATE TABLE run (
    run_id          uuid        PRIMARY KEY,
    request_id      uuid        NOT NULL UNIQUE REFERENCES request (request_id),
    model           text        NOT NULL,
    cause           text        NOT NULL,
    as_of           timestamptz NOT NULL,
    spec            text        NOT NULL,
    spec_generation integer     NOT NULL CHECK (spec_generation >= 1),
    feature_stream  text        NOT NULL,
    label_stream    text        NOT NULL,
    state           text        NOT NULL
                    CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    in_flight       boolean     NOT NULL,
    job_id          uuid        UNIQUE,
    attempt         integer     NOT NULL DEFAULT 0,
    stage           text        NOT NULL DEFAULT 'waiting for data',
    share           real        NOT NULL DEFAULT 0,
    reason          text,
    result          text,
    event_id        text        NOT NULL,
    correlation_id  text        NOT NULL,
    traceparent     text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz,
    CHECK (in_flight OR state NOT IN ('queued', 'running'))
);

-- The rule that a model has at most one run in flight, where no race can get around it.
CREATE UNIQUE INDEX run_one_in_flight ON run (model) WHERE in_flight;
CREATE INDEX run_of_model ON run (model, created_at);
CREATE INDEX run_waiting ON run (created_at) WHERE state = 'queued' AND job_id IS NULL;

CREATE TABLE dataset (
    stream       text        PRIMARY KEY,
    version      bigint      NOT NULL CHECK (version >= 0),
    watermark    timestamptz NOT NULL,
    table_uri    text        NOT NULL
);
