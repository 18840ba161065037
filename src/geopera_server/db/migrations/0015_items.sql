-- Deleting items and having them back.

-- Files that went with their item come back with it; those that were deleted before do not.
ALTER TABLE asset ADD COLUMN deleted_with_item boolean NOT NULL DEFAULT false;
ALTER TABLE asset ADD CONSTRAINT asset_is_deleted_with_item CHECK (NOT deleted_with_item OR deleted_at IS NOT NULL);

-- Open work that reads items names them in its payload, as item_ids.
CREATE INDEX job_reads_items ON job USING gin ((payload -> 'item_ids')) WHERE state IN ('queued', 'running');
