-- What becomes of data in the end: files that expire, objects that are given up, and the members of a project by id.

ALTER TABLE project_member ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE;

-- An order, an upload or a job files what it makes under one live collection.
DROP INDEX collection_of_order;
CREATE UNIQUE INDEX collection_of_source ON collection (source_type, source_id) WHERE source_id IS NOT NULL AND deleted_at IS NULL;

-- Filing and deleting a collection wait for each other: what is filed under one that is gone by then is in none.
CREATE FUNCTION item_is_filed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found collection;
BEGIN
    SELECT * INTO found FROM collection c WHERE c.id = NEW.collection_id FOR SHARE;
    IF found.deleted_at IS NOT NULL THEN
        NEW.collection_id := NULL;
    ELSIF found.project_id <> NEW.project_id THEN
        RAISE EXCEPTION 'a collection of another project' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER item_is_filed BEFORE INSERT OR UPDATE OF collection_id, project_id ON item
    FOR EACH ROW WHEN (NEW.collection_id IS NOT NULL) EXECUTE FUNCTION item_is_filed();

-- The files of an expired item take no room any more; their objects are erased later, and their rows stay to be read.
ALTER TABLE asset ADD COLUMN expired_at timestamptz;
ALTER TABLE asset ADD COLUMN erased_at timestamptz;
ALTER TABLE asset ADD CONSTRAINT asset_expires_before_it_is_erased CHECK (erased_at IS NULL OR expired_at IS NOT NULL);
CREATE INDEX asset_to_erase ON asset (expired_at) WHERE expired_at IS NOT NULL AND erased_at IS NULL;
DROP INDEX asset_stored;
CREATE INDEX asset_stored ON asset (organization_id, project_id, id) INCLUDE (file_size_bytes)
    WHERE deleted_at IS NULL AND expired_at IS NULL AND NOT external;

CREATE INDEX item_to_expire ON item (expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX item_to_purge ON item (organization_id, deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX asset_to_purge ON asset (organization_id, deleted_at) WHERE deleted_at IS NOT NULL;
-- Rows that go are looked for in what may refer to them, deleted or not.
CREATE INDEX asset_of_item ON asset (item_id);
CREATE INDEX item_of_collection ON item (collection_id) WHERE collection_id IS NOT NULL;

-- Paths that a call has given up; its job removes the objects after the commit, and then these rows.
CREATE TABLE erasure (
    path            text        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    call_id         uuid        NOT NULL,
    given_up_at     timestamptz NOT NULL
);
CREATE INDEX erasure_by_call ON erasure (call_id);
