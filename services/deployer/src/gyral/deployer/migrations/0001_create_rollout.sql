-- What the deployer owns: rollouts, what was observed in their steps, and the routes.
CREATE TABLE rollout (
    model        text        NOT NULL,
    version      integer     NOT NULL,
    run_id       uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    stage        text        NOT NULL CHECK (stage IN ('warming', 'shadow', 'canary', 'completed', 'aborted')),
    step         integer     NOT NULL DEFAULT 0,
    extended     boolean     NOT NULL DEFAULT false,
    epoch        bigint,
    previous     integer,
    bootstrap    boolean     NOT NULL,
    artifacts    jsonb       NOT NULL,
    spec         jsonb       NOT NULL,
    bento_key    text,
    reason       text,
    cause        jsonb       NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (model, version)
);
-- At most one rollout of a model is under way.
CREATE UNIQUE INDEX rollout_in_flight ON rollout (model) WHERE stage NOT IN ('completed', 'aborted');

CREATE TABLE route (
    model        text        PRIMARY KEY,
    epoch        bigint      NOT NULL CHECK (epoch >= 1),
    event        jsonb       NOT NULL
);

-- One answered request in the present step; redeliveries and replays meet the primary key.
CREATE TABLE observation (
    model        text        NOT NULL,
    request_id   uuid        NOT NULL,
    role         text        NOT NULL,
    epoch        bigint      NOT NULL,
    version      integer     NOT NULL,
    rows         integer     NOT NULL,
    failed_rows  integer     NOT NULL,
    latency_us   bigint      NOT NULL,
    PRIMARY KEY (model, request_id, role)
);

-- How far each partition of the prediction log is in a model's event time.
CREATE TABLE watermark (
    model        text        NOT NULL,
    partition    integer     NOT NULL,
    event_time   timestamptz NOT NULL,
    PRIMARY KEY (model, partition)
);
