-- What a statement stores and frees is added up once for all its rows: row by row, each of n rows made the totals' row anew,
-- and found it behind the n before it.

DROP TRIGGER asset_moves_storage ON asset;
DROP FUNCTION asset_moves_storage();
DROP TRIGGER storage_entry_moves ON storage_entry;
DROP FUNCTION storage_entry_moves_totals();

-- An asset takes room while it is live, has not expired, and lies in own storage.
CREATE FUNCTION stored_bytes(a asset) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT CASE WHEN a.external OR a.deleted_at IS NOT NULL OR a.expired_at IS NOT NULL THEN 0 ELSE a.file_size_bytes END $$;

CREATE FUNCTION assets_were_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind)
    SELECT organization_id, project_id, id, stored_bytes(n), 'stored' FROM now_there n WHERE stored_bytes(n) <> 0;
    RETURN NULL;
END $$;
CREATE TRIGGER assets_were_added AFTER INSERT ON asset
    REFERENCING NEW TABLE AS now_there FOR EACH STATEMENT EXECUTE FUNCTION assets_were_added();

CREATE FUNCTION assets_were_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind)
    SELECT organization_id, project_id, id, -stored_bytes(g), 'removed' FROM gone g WHERE stored_bytes(g) <> 0;
    RETURN NULL;
END $$;
CREATE TRIGGER assets_were_removed AFTER DELETE ON asset
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION assets_were_removed();

-- An asset that goes from one project to another leaves the one and comes into the other; what is freed counts first.
CREATE FUNCTION assets_were_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind)
    SELECT organization_id, project_id, id, delta, CASE WHEN delta > 0 THEN 'stored' ELSE 'removed' END
      FROM (SELECT organization_id, project_id, id, sum(bytes)::bigint AS delta
              FROM (SELECT organization_id, project_id, id, -stored_bytes(b) AS bytes FROM before b
                     UNION ALL SELECT organization_id, project_id, id, stored_bytes(a) FROM after a) both_sides
             GROUP BY organization_id, project_id, id) moved
     WHERE delta <> 0 ORDER BY delta, id;
    RETURN NULL;
END $$;
CREATE TRIGGER assets_were_changed AFTER UPDATE ON asset
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION assets_were_changed();

CREATE FUNCTION storage_entries_move_totals() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moved record;
    total bigint;
BEGIN
    -- Corrections put the ledger right and store nothing: what is stored is counted anew by whoever corrects.
    FOR moved IN SELECT organization_id AS id, sum(bytes_delta)::bigint AS delta,
                        coalesce(sum(bytes_delta) FILTER (WHERE kind IN ('stored', 'removed')), 0)::bigint AS bytes
                   FROM entries GROUP BY organization_id ORDER BY organization_id LOOP
        INSERT INTO storage_total AS t (organization_id, bytes, ledger_bytes) VALUES (moved.id, moved.bytes, moved.delta)
        ON CONFLICT (organization_id) DO UPDATE
           SET bytes = t.bytes + moved.bytes, ledger_bytes = t.ledger_bytes + moved.delta
        RETURNING ledger_bytes INTO total;
        INSERT INTO storage_day AS d (organization_id, day, bytes_delta, bytes_peak, byte_seconds)
        SELECT moved.id, (at AT TIME ZONE 'UTC')::date, sum(bytes_delta), greatest(total, total - moved.delta),
               sum(bytes_delta * seconds_left_of_day(at))
          FROM entries WHERE organization_id = moved.id GROUP BY 2 ORDER BY 2
        ON CONFLICT (organization_id, day) DO UPDATE
           SET bytes_delta = d.bytes_delta + EXCLUDED.bytes_delta, bytes_peak = greatest(d.bytes_peak, total),
               byte_seconds = d.byte_seconds + EXCLUDED.byte_seconds;
    END LOOP;
    INSERT INTO storage_of_project AS p (project_id, organization_id, bytes)
    SELECT project_id, organization_id, sum(bytes_delta) FROM entries
     WHERE kind IN ('stored', 'removed') AND project_id IS NOT NULL GROUP BY 1, 2 ORDER BY 1
    ON CONFLICT (project_id) DO UPDATE SET bytes = p.bytes + EXCLUDED.bytes;
    RETURN NULL;
END $$;
CREATE TRIGGER storage_entries_move AFTER INSERT ON storage_entry
    REFERENCING NEW TABLE AS entries FOR EACH STATEMENT EXECUTE FUNCTION storage_entries_move_totals();
