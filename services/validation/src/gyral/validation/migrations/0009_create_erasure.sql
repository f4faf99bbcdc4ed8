-- Which secret the pseudonyms follow from, as its fingerprint: the one row.
CREATE TABLE personal_key (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    fingerprint text    NOT NULL
);

-- How bytes are kept: as they came; or encrypted, be they from behind the door (`pseudonymised`)
-- or from elsewhere (`clear`). Once they are gone (`erased_at`) only their place is left.
ALTER TABLE quarantine
    ADD COLUMN protection text CHECK (protection IN ('pseudonymised', 'clear')),
    ADD COLUMN subject    text,
    ADD COLUMN erased_at  timestamptz;

CREATE INDEX quarantine_protected ON quarantine (stream, subject) WHERE protection IS NOT NULL AND erased_at IS NULL;

-- Whose rows were erased, by pseudonym: those that Kafka held when it was asked, and no others.
CREATE TABLE erasure (
    id         uuid        PRIMARY KEY,
    seq        bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    stream     text        NOT NULL,
    subject    text        NOT NULL,
    actor      text        NOT NULL,
    because    text        NOT NULL,
    partitions integer[]   NOT NULL,
    ends       bigint[]    NOT NULL,
    asked_at   timestamptz NOT NULL DEFAULT now(),
    rows       bigint      NOT NULL DEFAULT 0,
    parked     bigint      NOT NULL DEFAULT 0,
    versions   bigint[]    NOT NULL DEFAULT '{}',
    done_at    timestamptz
);

CREATE INDEX erasure_open ON erasure (seq) WHERE done_at IS NULL;

-- Where erased rows lay, so that each offset still has its one place.
CREATE TABLE erased_row (
    topic     text    NOT NULL,
    partition integer NOT NULL,
    "offset"  bigint  NOT NULL,
    row       integer NOT NULL,
    erasure   uuid    NOT NULL REFERENCES erasure (id),
    PRIMARY KEY (topic, partition, "offset", row)
);

CREATE INDEX erased_row_of ON erased_row (erasure);

-- Files of older versions that held such rows, and the versions they are of; noted before they are written anew.
CREATE TABLE erased_file (
    erasure       uuid   NOT NULL REFERENCES erasure (id),
    path          text   NOT NULL,
    first_version bigint,
    end_version   bigint,
    PRIMARY KEY (erasure, path)
);

CREATE FUNCTION refuse_rewriting_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an erasure is ended once and never rewritten: % refused', TG_OP;
END
$$;
CREATE TRIGGER erasure_is_ended_once BEFORE UPDATE ON erasure
    FOR EACH ROW
    WHEN (OLD.done_at IS NOT NULL
          OR (OLD.id, OLD.stream, OLD.subject, OLD.actor, OLD.because, OLD.asked_at)
             IS DISTINCT FROM (NEW.id, NEW.stream, NEW.subject, NEW.actor, NEW.because, NEW.asked_at))
    EXECUTE FUNCTION refuse_rewriting_erasure();
CREATE TRIGGER erasure_stays BEFORE DELETE OR TRUNCATE ON erasure
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_erasure();
