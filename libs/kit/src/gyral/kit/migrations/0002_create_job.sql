-- Work longer than a handler may take: claimed by lease, fenced by token.
CREATE TABLE job (
    id             uuid        PRIMARY KEY,
    kind           text        NOT NULL,
    spec           text        NOT NULL,
    state          text        NOT NULL DEFAULT 'queued'
                   CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    token          integer     NOT NULL DEFAULT 0,
    attempts       integer     NOT NULL DEFAULT 0,
    max_attempts   integer     NOT NULL CHECK (max_attempts >= 1),
    not_before     timestamptz NOT NULL DEFAULT now(),
    worker         text,
    lease_until    timestamptz,
    checkpoint     text,
    cancel         boolean     NOT NULL DEFAULT false,
    reason         text,
    event_id       text,
    correlation_id text,
    traceparent    text,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX job_open ON job (kind, created_at) WHERE state IN ('queued', 'running');
