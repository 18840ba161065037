-- Deleting items and having them back.

-- Files that went with their item come back with it; those that were deleted before do not.
ALTER TABLE asset ADD COLUMN deleted_with_item boolean NOT NULL DEFAULT false;
ALTER TABLE asset ADD CONSTRAINT asset_is_deleted_with_item CHECK (NOT deleted_with_item OR deleted_at IS NOT NULL);

-- The object of a file that was deleted by itself goes at once, as those of expired items do after a while.
ALTER TABLE asset DROP CONSTRAINT asset_expires_before_it_is_erased;
ALTER TABLE asset ADD CONSTRAINT asset_ends_before_it_is_erased
    CHECK (erased_at IS NULL OR expired_at IS NOT NULL OR deleted_at IS NOT NULL);

-- Open work that reads items names them in its payload, as item_ids.
CREATE INDEX job_reads_items ON job USING gin ((payload -> 'item_ids')) WHERE state IN ('queued', 'running');
