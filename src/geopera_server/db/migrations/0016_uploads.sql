-- Uploads: a session reserves room, takes its files whole or part by part, and ends exactly once.

CREATE TABLE upload (
    id                   uuid        NOT NULL PRIMARY KEY,
    organization_id      uuid        NOT NULL REFERENCES organization (id),
    project_id           uuid        NOT NULL REFERENCES project (id),
    status               text        NOT NULL DEFAULT 'initiating' CHECK (status IN (
        'initiating', 'uploading', 'detecting', 'converting', 'reviewing', 'registering', 'completed', 'failed')),
    transfer_method      text        NOT NULL CHECK (transfer_method IN ('browser', 'cli', 'cloud_transfer')),
    file_count           integer     NOT NULL CHECK (file_count >= 1),
    total_bytes          bigint      NOT NULL CHECK (total_bytes >= 0),   -- as declared; 0: nothing was
    bytes_uploaded       bigint      NOT NULL DEFAULT 0,
    reserved_bytes       bigint      NOT NULL DEFAULT 0 CHECK (reserved_bytes >= 0),
    is_categorical       boolean     NOT NULL DEFAULT false,
    target_collection_id uuid,
    target_item_id       uuid,
    asset_key            text,
    item_id              uuid,
    checksum_crc32c      text,
    user_metadata        jsonb,
    detected_metadata    jsonb,
    error_message        text,
    error_step           text,
    created_by           uuid,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    expires_at           timestamptz NOT NULL,   -- moves on with everything that happens to an open session
    completed_at         timestamptz,
    CONSTRAINT upload_ended_holds_nothing CHECK (reserved_bytes = 0 OR status NOT IN ('completed', 'failed')),
    CONSTRAINT upload_completed_has_item CHECK ((status = 'completed') = (completed_at IS NOT NULL))
);
CREATE INDEX upload_newest ON upload (project_id, created_at DESC, id);
CREATE INDEX upload_by_organization ON upload (organization_id);
CREATE INDEX upload_idle ON upload (expires_at) WHERE status NOT IN ('completed', 'failed');

-- A file appears when all of it is stored; until then, and while it is being replaced, `transfer_*` tell of its parts.
CREATE TABLE upload_file (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL,
    upload_id       uuid        NOT NULL REFERENCES upload (id) ON DELETE CASCADE,
    file_name       text        NOT NULL,
    content_type    text        NOT NULL,
    stored_path     text,
    size_bytes      bigint,
    sha256          text,
    crc32c          text,
    received_at     timestamptz,
    transfer_id     uuid,
    transfer_bytes  bigint,                      -- null: the sender does not know yet
    received_bytes  bigint      NOT NULL DEFAULT 0,
    asset_id        uuid,                        -- what the file has become
    created_at      timestamptz NOT NULL,
    UNIQUE (upload_id, file_name),
    CHECK ((stored_path IS NULL) = (size_bytes IS NULL))
);

CREATE TABLE upload_part (
    transfer_id     uuid   NOT NULL,
    start_byte      bigint NOT NULL,
    organization_id uuid   NOT NULL,
    file_id         uuid   NOT NULL REFERENCES upload_file (id) ON DELETE CASCADE,
    size_bytes      bigint NOT NULL CHECK (size_bytes > 0),
    path            text   NOT NULL,
    PRIMARY KEY (transfer_id, start_byte)
);
CREATE INDEX upload_part_of_file ON upload_part (file_id);

-- What an organization has reserved is what its sessions have, whoever changes or removes them.
CREATE FUNCTION upload_moves_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owner uuid   := CASE WHEN TG_OP = 'DELETE' THEN OLD.organization_id ELSE NEW.organization_id END;
    moved bigint := CASE TG_OP WHEN 'DELETE' THEN -OLD.reserved_bytes
                               WHEN 'INSERT' THEN NEW.reserved_bytes
                               ELSE NEW.reserved_bytes - OLD.reserved_bytes END;
BEGIN
    IF moved <> 0 THEN
        INSERT INTO storage_total (organization_id) VALUES (owner) ON CONFLICT DO NOTHING;
        UPDATE storage_total SET reserved_bytes = reserved_bytes + moved WHERE organization_id = owner;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER upload_moves_reservation AFTER INSERT OR DELETE OR UPDATE OF reserved_bytes ON upload
    FOR EACH ROW EXECUTE FUNCTION upload_moves_reservation();
