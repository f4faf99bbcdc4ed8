-- Where each expectation of a stream stands, what is counted of blocks that are not over, and
-- what came out of those that are.
CREATE TABLE expectation (
    stream       text    NOT NULL,
    name         text    NOT NULL,
    measure      text    NOT NULL,
    next_us      bigint,
    newest_us    bigint,
    reference    bigint[],
    reference_us bigint,
    failing      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (stream, name)
);

CREATE TABLE block_count (
    stream    text    NOT NULL,
    measure   text    NOT NULL,
    block_us  bigint  NOT NULL,
    partition integer NOT NULL,
    rows      bigint  NOT NULL,
    counts    bytea   NOT NULL,
    PRIMARY KEY (stream, measure, block_us, partition)
);

CREATE TABLE judged_block (
    id             bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream         text             NOT NULL,
    expectation    text             NOT NULL,
    kind           text             NOT NULL,
    field          text,
    severity       text             NOT NULL CHECK (severity IN ('warn', 'block')),
    start_us       bigint           NOT NULL,
    end_us         bigint           NOT NULL,
    rows           bigint           NOT NULL,
    measured       double precision,
    expected       text             NOT NULL,
    outcome        text             NOT NULL CHECK (outcome IN ('passed', 'failed', 'skipped')),
    counts         bigint[],
    judged_at      timestamptz      NOT NULL DEFAULT now(),
    released_at    timestamptz,
    released_by    text,
    release_reason text,
    UNIQUE (stream, expectation, start_us, end_us),
    CHECK (released_at IS NULL OR (outcome = 'failed' AND release_reason IS NOT NULL))
);

CREATE INDEX judged_block_listed ON judged_block (stream, id);
CREATE INDEX judged_block_held ON judged_block (stream, start_us)
 WHERE outcome = 'failed' AND severity = 'block' AND released_at IS NULL;

CREATE FUNCTION refuse_rewriting_block() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a judged block is released once and never rewritten: % refused', TG_OP;
END
$$;
CREATE TRIGGER judged_block_is_released_once BEFORE UPDATE ON judged_block
    FOR EACH ROW
    WHEN (OLD.released_at IS NOT NULL
          OR (OLD.stream, OLD.expectation, OLD.start_us, OLD.end_us, OLD.outcome, OLD.severity)
             IS DISTINCT FROM
             (NEW.stream, NEW.expectation, NEW.start_us, NEW.end_us, NEW.outcome, NEW.severity))
    EXECUTE FUNCTION refuse_rewriting_block();
CREATE TRIGGER judged_block_stays BEFORE DELETE OR TRUNCATE ON judged_block
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_block();

-- The newest generation whose expectations count, and up to when rows may be used.
ALTER TABLE stream_progress ADD COLUMN generation bigint NOT NULL DEFAULT 0;
ALTER TABLE stream_progress ADD COLUMN usable_us bigint;
UPDATE stream_progress SET usable_us = watermark_us;
ALTER TABLE dataset ADD COLUMN usable_us bigint;
UPDATE dataset SET usable_us = watermark_us;
ALTER TABLE dataset ALTER COLUMN usable_us SET NOT NULL;
