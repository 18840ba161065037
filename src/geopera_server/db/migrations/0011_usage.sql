-- What organizations use: counters per day, the ledger of stored bytes, and how both are checked and put right.

-- One row per organization, project, UTC day and kind; only ever added to.
CREATE TABLE usage_day (
    organization_id uuid   NOT NULL REFERENCES organization (id),
    day             date   NOT NULL,
    kind            text   NOT NULL CHECK (kind IN (
        'api_requests', 'tile_requests', 'shared_tile_requests', 'egress_bytes', 'sent_bytes')),
    project_id      uuid,                  -- null: not of any one project
    amount          bigint NOT NULL CHECK (amount >= 0),
    UNIQUE NULLS NOT DISTINCT (organization_id, day, kind, project_id)
);

-- Each process adds its batches in their order, so the number of its last one tells whether a batch was added before.
CREATE TABLE usage_writer (
    id    uuid        NOT NULL PRIMARY KEY,
    batch bigint      NOT NULL,
    at    timestamptz NOT NULL
);

-- Counts that the database refused, with the reason; added again, once each, by billing.dlq.replay.
CREATE TABLE usage_dead_letter (
    event_id        uuid        NOT NULL PRIMARY KEY,
    storage_type    text        NOT NULL CHECK (storage_type IN ('usage_day')),
    source          text        NOT NULL,
    organization_id text,
    project_id      text,
    day             date        NOT NULL,
    amount          numeric     NOT NULL,
    error           text        NOT NULL,
    attempts        integer     NOT NULL DEFAULT 0,   -- of adding it again
    created_at      timestamptz NOT NULL,
    resolved_at     timestamptz
);
CREATE INDEX usage_dead_letter_pending ON usage_dead_letter (attempts, created_at, event_id) WHERE resolved_at IS NULL;

-- The counted downloads of an organization are part of its egress from the moment their address is given out.
CREATE FUNCTION egress_grant_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_day AS d (organization_id, day, kind, project_id, amount)
    VALUES (NEW.organization_id, (NEW.issued_at AT TIME ZONE 'UTC')::date, 'egress_bytes',
            (SELECT a.project_id FROM asset a WHERE a.id = NEW.asset_id), NEW.bytes)
    ON CONFLICT (organization_id, day, kind, project_id) DO UPDATE SET amount = d.amount + EXCLUDED.amount;
    RETURN NULL;
END $$;
INSERT INTO usage_day (organization_id, day, kind, project_id, amount)
SELECT g.organization_id, (g.issued_at AT TIME ZONE 'UTC')::date, 'egress_bytes', a.project_id, sum(g.bytes)
  FROM egress_grant g LEFT JOIN asset a ON a.id = g.asset_id GROUP BY 1, 2, 4;
CREATE TRIGGER egress_grant_counts AFTER INSERT ON egress_grant FOR EACH ROW EXECUTE FUNCTION egress_grant_counts();

-- Every change of what is stored, whoever makes it: the trigger on asset writes these.
CREATE TABLE storage_entry (
    id              uuid        NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    number          bigint      GENERATED ALWAYS AS IDENTITY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    project_id      uuid,
    asset_id        uuid,
    bytes_delta     bigint      NOT NULL CHECK (bytes_delta <> 0),
    kind            text        NOT NULL CHECK (kind IN (
        'stored', 'removed', 'backfilled', 'stale_removed', 'negative_zeroed', 'corrected')),
    event_id        text        NOT NULL UNIQUE DEFAULT gen_random_uuid()::text,
    at              timestamptz NOT NULL DEFAULT now(),
    invocation_id   uuid,                  -- of a correction; a stored asset's is in its lineage
    note            text
);
CREATE INDEX storage_entry_by_asset ON storage_entry (organization_id, asset_id) INCLUDE (bytes_delta);

-- What the entries come to. `bytes` is what is stored, as last counted; `ledger_bytes` is the sum of the entries.
CREATE TABLE storage_total (
    organization_id uuid        NOT NULL PRIMARY KEY REFERENCES organization (id),
    bytes           bigint      NOT NULL DEFAULT 0,
    ledger_bytes    bigint      NOT NULL DEFAULT 0,
    reserved_bytes  bigint      NOT NULL DEFAULT 0 CHECK (reserved_bytes >= 0),
    recalculated_at timestamptz
);
CREATE TABLE storage_of_project (
    project_id      uuid   NOT NULL PRIMARY KEY,
    organization_id uuid   NOT NULL REFERENCES organization (id),
    bytes           bigint NOT NULL DEFAULT 0
);
CREATE INDEX storage_of_project_by_organization ON storage_of_project (organization_id);

-- One row per UTC day with entries; `byte_seconds` is what they come to from their moments to the end of the day.
CREATE TABLE storage_day (
    organization_id uuid    NOT NULL REFERENCES organization (id),
    day             date    NOT NULL,
    bytes_delta     bigint  NOT NULL,
    bytes_peak      bigint  NOT NULL,
    byte_seconds    numeric NOT NULL,
    PRIMARY KEY (organization_id, day)
);

CREATE FUNCTION seconds_left_of_day(at timestamptz) RETURNS numeric LANGUAGE sql IMMUTABLE AS
    $$ SELECT 86400 - extract(epoch FROM (at AT TIME ZONE 'UTC') - date_trunc('day', at AT TIME ZONE 'UTC')) $$;

INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind, event_id, at)
SELECT organization_id, project_id, id, file_size_bytes, 'stored', 'stored:' || id, created_at
  FROM asset WHERE NOT external AND file_size_bytes <> 0
UNION ALL
SELECT organization_id, project_id, id, -file_size_bytes, 'removed', 'removed:' || id, deleted_at
  FROM asset WHERE NOT external AND file_size_bytes <> 0 AND deleted_at IS NOT NULL;
INSERT INTO storage_total (organization_id, bytes, ledger_bytes)
SELECT o.id, coalesce(sum(e.bytes_delta), 0), coalesce(sum(e.bytes_delta), 0)
  FROM organization o LEFT JOIN storage_entry e ON e.organization_id = o.id GROUP BY o.id;
INSERT INTO storage_of_project (project_id, organization_id, bytes)
SELECT project_id, organization_id, sum(bytes_delta) FROM storage_entry GROUP BY 1, 2;
INSERT INTO storage_day (organization_id, day, bytes_delta, bytes_peak, byte_seconds)
SELECT organization_id, (at AT TIME ZONE 'UTC')::date, sum(bytes_delta), max(greatest(before, before + bytes_delta)),
       sum(bytes_delta * seconds_left_of_day(at))
  FROM (SELECT *, sum(bytes_delta) OVER (PARTITION BY organization_id ORDER BY at, number) - bytes_delta AS before
          FROM storage_entry) moved
 GROUP BY 1, 2;

CREATE FUNCTION storage_entry_moves_totals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Corrections put the ledger right and store nothing: what is stored is counted anew by whoever corrects.
    moved bigint := CASE WHEN NEW.kind IN ('stored', 'removed') THEN NEW.bytes_delta ELSE 0 END;
    total bigint;
BEGIN
    INSERT INTO storage_total AS t (organization_id, bytes, ledger_bytes)
    VALUES (NEW.organization_id, moved, NEW.bytes_delta)
    ON CONFLICT (organization_id) DO UPDATE
       SET bytes = t.bytes + moved, ledger_bytes = t.ledger_bytes + NEW.bytes_delta
    RETURNING ledger_bytes INTO total;
    INSERT INTO storage_day AS d (organization_id, day, bytes_delta, bytes_peak, byte_seconds)
    VALUES (NEW.organization_id, (NEW.at AT TIME ZONE 'UTC')::date, NEW.bytes_delta,
            greatest(total, total - NEW.bytes_delta), NEW.bytes_delta * seconds_left_of_day(NEW.at))
    ON CONFLICT (organization_id, day) DO UPDATE
       SET bytes_delta = d.bytes_delta + EXCLUDED.bytes_delta, bytes_peak = greatest(d.bytes_peak, total),
           byte_seconds = d.byte_seconds + EXCLUDED.byte_seconds;
    IF moved <> 0 AND NEW.project_id IS NOT NULL THEN
        INSERT INTO storage_of_project AS p (project_id, organization_id, bytes)
        VALUES (NEW.project_id, NEW.organization_id, moved)
        ON CONFLICT (project_id) DO UPDATE SET bytes = p.bytes + moved;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER storage_entry_moves AFTER INSERT ON storage_entry
    FOR EACH ROW EXECUTE FUNCTION storage_entry_moves_totals();
CREATE TRIGGER storage_entry_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON storage_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- An asset takes room while it is live and lies in own storage.
CREATE FUNCTION asset_moves_storage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_bytes bigint := 0;
    new_bytes bigint := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND NOT OLD.external AND OLD.deleted_at IS NULL THEN
        old_bytes := OLD.file_size_bytes;
    END IF;
    IF TG_OP <> 'DELETE' AND NOT NEW.external AND NEW.deleted_at IS NULL THEN
        new_bytes := NEW.file_size_bytes;
    END IF;
    IF TG_OP = 'UPDATE' AND (OLD.id, OLD.organization_id, OLD.project_id) = (NEW.id, NEW.organization_id, NEW.project_id) THEN
        new_bytes := new_bytes - old_bytes;
        old_bytes := 0;
    END IF;
    IF old_bytes <> 0 THEN
        INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind)
        VALUES (OLD.organization_id, OLD.project_id, OLD.id, -old_bytes, 'removed');
    END IF;
    IF new_bytes <> 0 THEN
        INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind)
        VALUES (NEW.organization_id, NEW.project_id, NEW.id, new_bytes,
                CASE WHEN new_bytes > 0 THEN 'stored' ELSE 'removed' END);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER asset_moves_storage
    AFTER INSERT OR DELETE OR UPDATE OF id, organization_id, project_id, external, file_size_bytes, deleted_at ON asset
    FOR EACH ROW EXECUTE FUNCTION asset_moves_storage();

-- A comparison of the ledger with what is stored, and what was done about a difference.
CREATE TABLE storage_run (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    ledger_bytes    bigint      NOT NULL,
    actual_bytes    bigint      NOT NULL,
    drift_bytes     bigint      GENERATED ALWAYS AS (ledger_bytes - actual_bytes) STORED,
    flagged         boolean     NOT NULL,
    threshold_bytes bigint      NOT NULL,
    missing         integer     NOT NULL,
    stale           integer     NOT NULL,
    negative        integer     NOT NULL,
    invocation_id   uuid        NOT NULL,
    created_at      timestamptz NOT NULL
);
CREATE INDEX storage_run_newest ON storage_run (created_at DESC, id DESC);
CREATE INDEX storage_run_by_organization ON storage_run (organization_id, created_at DESC, id DESC);
CREATE TRIGGER storage_run_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON storage_run
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE storage_correction (
    id                 uuid        NOT NULL PRIMARY KEY,
    organization_id    uuid        NOT NULL REFERENCES organization (id),
    asset_id           uuid,
    entry_id           uuid        NOT NULL UNIQUE REFERENCES storage_entry (id),
    bytes_delta        bigint      NOT NULL,
    reason             text        NOT NULL,
    applied_by         text        NOT NULL,
    ledger_bytes_after bigint      NOT NULL,
    invocation_id      uuid        NOT NULL,
    created_at         timestamptz NOT NULL
);
CREATE INDEX storage_correction_newest ON storage_correction (created_at DESC, id DESC);
CREATE INDEX storage_correction_by_organization ON storage_correction (organization_id, created_at DESC, id DESC);
CREATE TRIGGER storage_correction_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON storage_correction
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE INDEX asset_stored ON asset (organization_id, project_id, id) INCLUDE (file_size_bytes)
    WHERE deleted_at IS NULL AND NOT external;
CREATE INDEX asset_by_path ON asset (href) WHERE NOT external;

-- What a month came to is asked of many months at once.
CREATE INDEX ledger_entry_by_time ON ledger_entry (organization_id, created_at);
CREATE INDEX orders_fulfilled ON orders (organization_id, fulfilled_at) WHERE fulfilled_at IS NOT NULL;
CREATE INDEX ledger_hold_of_jobs ON ledger_hold (organization_id, created_at) WHERE job_id IS NOT NULL;
