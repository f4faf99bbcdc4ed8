-- What a service could not handle, whole; and who had what put back and why, which only grows.
ALTER TABLE inbox ADD COLUMN parked boolean NOT NULL DEFAULT false;
ALTER TABLE outbox ADD COLUMN partition integer;

CREATE TABLE dead_letter (
    seq           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            uuid        NOT NULL UNIQUE,
    topic         text        NOT NULL,
    partition     integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    event_id      text        NOT NULL,
    reason        text        NOT NULL,
    error         text        NOT NULL,
    attempts      integer     NOT NULL,
    key           bytea,
    header_names  bytea[]     NOT NULL,
    header_values bytea[]     NOT NULL,
    value         bytea,
    parked_at     timestamptz NOT NULL DEFAULT now(),
    state         text        NOT NULL DEFAULT 'parked'
                  CHECK (state IN ('parked', 'replayed', 'handled')),
    settled_at    timestamptz,
    replay_id     uuid
);

CREATE INDEX dead_letter_parked ON dead_letter (topic, seq) WHERE state = 'parked';

CREATE TABLE replay (
    id          uuid        PRIMARY KEY,
    kind        text        NOT NULL CHECK (kind IN ('dead_letter', 'quarantine')),
    items       text[]      NOT NULL,
    actor       text        NOT NULL,
    because     text        NOT NULL,
    replayed_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION refuse_rewriting_replay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log of replays only grows: % refused', TG_OP;
END
$$;
CREATE TRIGGER replay_only_grows BEFORE UPDATE OR DELETE ON replay
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting_replay();
CREATE TRIGGER replay_is_never_emptied BEFORE TRUNCATE ON replay
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_replay();
