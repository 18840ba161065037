-- Scenes of the index that their provider lets everybody look at.

CREATE INDEX scene_samples ON scene (host, captured_at DESC, id)
    WHERE deleted_at IS NULL AND properties @> '{"geopera:sample": true}';
