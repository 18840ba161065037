-- What every operation needs whatever its domain: rate windows, idempotent replies, audit, lineage, events, background jobs.

-- Loses its rows in a crash and nothing else: a lost window only gives a caller one fresh minute.
CREATE UNLOGGED TABLE rate_window (
    bucket       text        NOT NULL,
    window_start timestamptz NOT NULL,
    used         integer     NOT NULL,
    PRIMARY KEY (bucket, window_start)
);

CREATE TABLE idempotency_record (
    organization_id uuid        NOT NULL,
    operation_id    text        NOT NULL,
    key             text        NOT NULL,
    fingerprint     bytea       NOT NULL,
    status          integer     NOT NULL,
    media_type      text        NOT NULL,
    body            bytea,               -- null when the reply held a one-time secret
    made_id         text,                -- what such a reply made, so that a repeat can name it
    invocation_id   uuid        NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,         -- null: kept as long as the order it bought
    PRIMARY KEY (organization_id, operation_id, key)
);
CREATE INDEX idempotency_record_expiry ON idempotency_record (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE audit_event (
    invocation_id        uuid        NOT NULL PRIMARY KEY,
    at                   timestamptz NOT NULL,
    operation_id         text        NOT NULL,
    side_effect          text        NOT NULL,
    scope                text        NOT NULL,
    principal_type       text        NOT NULL,
    principal_id         text,
    api_key_id           uuid,
    organization_id      uuid,
    status               integer     NOT NULL,
    code                 text,
    outcome              text        NOT NULL CHECK (outcome IN ('ok', 'denied', 'failed')),
    duration_ms          real        NOT NULL,
    ip                   text,
    user_agent           text,
    entities             jsonb       NOT NULL DEFAULT '[]',
    input_digest         text,
    idempotency_key_hash text,
    replayed             boolean     NOT NULL DEFAULT false
);
CREATE INDEX audit_event_by_organization ON audit_event (organization_id, at DESC);

CREATE TABLE lineage_record (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid        NOT NULL,
    invocation_id   uuid        NOT NULL,
    operation_id    text        NOT NULL,
    principal_type  text        NOT NULL,
    principal_id    text,
    kind            text        NOT NULL CHECK (kind IN ('edge', 'event')),
    entity_type     text        NOT NULL,
    entity_id       text        NOT NULL,
    parents         jsonb       NOT NULL DEFAULT '[]',
    digest_before   text,
    digest_after    text        NOT NULL,
    recorded_at     timestamptz NOT NULL,
    record_digest   text        NOT NULL,
    -- given by the sealer, in commit order and once; see lineage_record_is_append_only
    seq             bigint,
    prev_hash       text,
    hash            text,
    UNIQUE (organization_id, seq)
);
CREATE INDEX lineage_record_by_entity ON lineage_record (entity_type, entity_id, id);
CREATE INDEX lineage_record_unsealed ON lineage_record (id) WHERE seq IS NULL;

-- The graph, walked in both directions; src is derived from dst.
CREATE TABLE lineage_edge (
    record_id       bigint NOT NULL REFERENCES lineage_record (id),
    organization_id uuid   NOT NULL,
    src_type        text   NOT NULL,
    src_id          text   NOT NULL,
    dst_type        text   NOT NULL,
    dst_id          text   NOT NULL,
    PRIMARY KEY (src_type, src_id, dst_type, dst_id, record_id)
);
CREATE INDEX lineage_edge_down ON lineage_edge (dst_type, dst_id, organization_id);
CREATE INDEX lineage_edge_of_record ON lineage_edge (record_id);

CREATE TABLE lineage_head (
    organization_id uuid   NOT NULL PRIMARY KEY,
    seq             bigint NOT NULL,
    hash            text   NOT NULL
);

CREATE TABLE lineage_seal (
    organization_id uuid        NOT NULL,
    from_seq        bigint      NOT NULL,
    to_seq          bigint      NOT NULL,
    head_hash       text        NOT NULL,
    signed_at       timestamptz NOT NULL,
    key_id          text        NOT NULL,
    signature       text        NOT NULL,
    PRIMARY KEY (organization_id, to_seq)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION lineage_record_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq IS NULL AND NEW.seq IS NOT NULL
       AND (to_jsonb(NEW) - 'seq' - 'prev_hash' - 'hash') = (to_jsonb(OLD) - 'seq' - 'prev_hash' - 'hash') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'lineage_record is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER lineage_record_keeps BEFORE UPDATE ON lineage_record
    FOR EACH ROW EXECUTE FUNCTION lineage_record_is_append_only();
CREATE TRIGGER lineage_record_stays BEFORE DELETE OR TRUNCATE ON lineage_record
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER lineage_edge_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON lineage_edge
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER lineage_seal_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON lineage_seal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_event_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE outbox_event (
    id              uuid        NOT NULL PRIMARY KEY,
    position        bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    organization_id uuid        NOT NULL,
    type            text        NOT NULL,
    entity_type     text        NOT NULL,
    entity_id       text        NOT NULL,
    project_id      uuid,
    data            jsonb       NOT NULL,
    invocation_id   uuid        NOT NULL,
    occurred_at     timestamptz NOT NULL
);
CREATE INDEX outbox_event_by_entity ON outbox_event (entity_type, entity_id, position);

-- The row is the truth of a background job; whatever wakes the workers is only a bell.
CREATE TABLE job (
    id              uuid        NOT NULL PRIMARY KEY,
    kind            text        NOT NULL,
    organization_id uuid        NOT NULL,
    entity_id       uuid        NOT NULL,
    payload         jsonb       NOT NULL DEFAULT '{}',
    state           text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    attempt         integer     NOT NULL DEFAULT 0,   -- the fencing token: grows with each claim
    failures        integer     NOT NULL DEFAULT 0,   -- since it last came further
    run_after       timestamptz NOT NULL,
    leased_until    timestamptz,
    worker          text,
    progress        real        NOT NULL DEFAULT 0,
    error           text,
    invocation_id   uuid        NOT NULL,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    CHECK ((state = 'running') = (leased_until IS NOT NULL))
);
CREATE INDEX job_waiting ON job (run_after) WHERE state = 'queued';
CREATE INDEX job_leased ON job (leased_until) WHERE state = 'running';
CREATE UNIQUE INDEX job_once_per_entity ON job (kind, entity_id) WHERE state IN ('queued', 'running');

-- Which secret this database is used under; see app.py.
CREATE TABLE deployment (
    only_row           boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    secret_fingerprint text    NOT NULL
);
