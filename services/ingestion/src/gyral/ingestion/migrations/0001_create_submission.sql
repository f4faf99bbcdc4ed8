-- Requests that came with an Idempotency-Key: the same key and body get the same answer.
CREATE TABLE submission (
    key_id          text        NOT NULL,
    idempotency_key text        NOT NULL,
    sha256          bytea       NOT NULL,
    claimed_until   timestamptz NOT NULL,
    accepted        integer,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id, idempotency_key)
);

CREATE INDEX submission_age ON submission (created_at);
