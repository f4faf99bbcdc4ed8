-- What the registry owns: specs, keys, versions, champions, and the audit log.
CREATE TABLE spec (
    kind         text        NOT NULL CHECK (kind IN ('Stream', 'Model')),
    name         text        NOT NULL,
    generation   integer     NOT NULL CHECK (generation >= 1),
    document     jsonb       NOT NULL,
    sha256       text        NOT NULL,
    declared_at  timestamptz NOT NULL,
    declared_by  text        NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE api_key (
    key_id       uuid        PRIMARY KEY,
    name         text        NOT NULL,
    generation   integer     NOT NULL DEFAULT 1,
    sha256       text        NOT NULL UNIQUE,
    scopes       text[]      NOT NULL,
    expires_at   timestamptz,
    revoked      boolean     NOT NULL DEFAULT false,
    issued_at    timestamptz NOT NULL
);

CREATE TABLE dataset (
    stream       text        PRIMARY KEY,
    version      bigint      NOT NULL,
    watermark    timestamptz NOT NULL,
    rows         bigint      NOT NULL
);

CREATE TABLE bootstrap (
    model        text        PRIMARY KEY,
    request_id   uuid        NOT NULL,
    as_of        timestamptz NOT NULL,
    in_flight    boolean     NOT NULL
);

CREATE TABLE version (
    model            text        NOT NULL,
    version          integer     NOT NULL CHECK (version >= 1),
    run_id           uuid        NOT NULL UNIQUE,
    request_id       uuid        NOT NULL,
    state            text        NOT NULL CHECK (state IN ('approved', 'rejected')),
    cause            text        NOT NULL,
    as_of            timestamptz NOT NULL,
    trained_until    timestamptz NOT NULL,
    champion_version integer,
    spec_generation  integer     NOT NULL,
    code_sha256      text        NOT NULL,
    seed             bigint      NOT NULL,
    artifacts        jsonb       NOT NULL,
    datasets         jsonb       NOT NULL,
    metrics          jsonb       NOT NULL,
    checks           jsonb       NOT NULL,
    reasons          jsonb       NOT NULL,
    registered_at    timestamptz NOT NULL,
    PRIMARY KEY (model, version)
);

CREATE TABLE champion (
    model        text        PRIMARY KEY,
    generation   integer     NOT NULL CHECK (generation >= 1),
    version      integer     NOT NULL,
    previous     integer,
    as_of        timestamptz NOT NULL,
    FOREIGN KEY (model, version) REFERENCES version (model, version)
);

CREATE TABLE audit (
    seq          bigint      PRIMARY KEY CHECK (seq >= 1),
    at           timestamptz NOT NULL,
    actor        text        NOT NULL,
    action       text        NOT NULL,
    subject      text        NOT NULL,
    reason       text        NOT NULL,
    change       jsonb       NOT NULL,
    previous     text        NOT NULL,
    hash         text        NOT NULL UNIQUE
);

-- The log only grows: its owner cannot rewrite it by accident, and the chain shows it when somebody does on purpose.
CREATE FUNCTION refuse_rewriting_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows: % refused', TG_OP;
END
$$;
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting_audit();
CREATE TRIGGER audit_is_never_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_audit();
