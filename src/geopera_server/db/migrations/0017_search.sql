-- Searching items: where and when they are, tenant by tenant, and their STAC features as they were last made.

-- Every organization searches a world of its own: the boxes of its items lie 400 degrees times its slot further east, so that
-- the spatial index never leads one organization through the items of another. At slot 10^6 a double still tells 6e-8 degrees
-- apart, less than the 1e-6 by which PostgreSQL's boxes overlap generously.
ALTER TABLE organization ADD COLUMN search_slot integer GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX organization_search_slot ON organization (search_slot);

-- A box that certainly lies inside a footprint: a query's box that meets it meets the footprint, and nobody needs to look closer.
-- Tried are the box between the middle coordinates, which fits tilted rectangles, and the middle half of the bounding box.
CREATE FUNCTION box_inside(geometry jsonb) RETURNS box LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    ring    jsonb;
    outline polygon;
    xs      double precision[];
    ys      double precision[];
    n       integer;
    tried   box;
    margin  CONSTANT double precision := 0.000003;   -- beyond the generosity of the containment test
BEGIN
    IF geometry ->> 'type' IS DISTINCT FROM 'Polygon' OR jsonb_array_length(geometry -> 'coordinates') <> 1 THEN
        RETURN NULL;
    END IF;
    ring := geometry #> '{coordinates,0}';
    n := jsonb_array_length(ring) - 1;
    IF n < 4 OR n > 64 THEN
        RETURN NULL;
    END IF;
    SELECT ('(' || string_agg(format('(%s,%s)', e.point ->> 0, e.point ->> 1), ',' ORDER BY e.place) || ')')::polygon,
           array_agg((e.point ->> 0)::double precision ORDER BY (e.point ->> 0)::double precision),
           array_agg((e.point ->> 1)::double precision ORDER BY (e.point ->> 1)::double precision)
      INTO outline, xs, ys
      FROM jsonb_array_elements(ring) WITH ORDINALITY AS e (point, place) WHERE e.place <= n;
    FOREACH tried IN ARRAY ARRAY[
        box(point(xs[n / 2], ys[n / 2]), point(xs[n / 2 + 1], ys[n / 2 + 1])),
        box(point(0.75 * xs[1] + 0.25 * xs[n], 0.75 * ys[1] + 0.25 * ys[n]),
            point(0.25 * xs[1] + 0.75 * xs[n], 0.25 * ys[1] + 0.75 * ys[n]))
    ] LOOP
        IF width(tried) > 4 * margin AND height(tried) > 4 * margin AND outline @> polygon(tried) THEN
            RETURN box((tried)[0] - point(margin, margin), (tried)[1] + point(margin, margin));
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- In which cell of a grid an item's middle lies; the larger the item, the wider the grid. Whatever meets an area lies in a cell
-- no further away than half the largest item of that grid, so that the newest of an area are the newest of few cells. What is
-- around the Earth or across the antimeridian is in the one cell of the widest grid.
CREATE FUNCTION item_cell(extent box, extent_across box) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN (
    SELECT CASE WHEN extent IS NULL THEN NULL
                ELSE step * 1000000 + floor(((center(extent))[1] + 90) / step)::integer * 1000
                     + floor(((center(extent))[0] + 180) / step)::integer END
      FROM (SELECT CASE WHEN extent_across IS NOT NULL THEN 1000
                        WHEN greatest(width(extent), height(extent)) <= 1 THEN 1
                        WHEN greatest(width(extent), height(extent)) <= 4 THEN 4
                        WHEN greatest(width(extent), height(extent)) <= 16 THEN 16
                        ELSE 1000 END AS step) AS grid);

-- What an item has, as numbers that are the same for the same property and value of one organization: whatever equals something
-- rare is found by them. Others may share a number by chance, so what is found is compared all the same.
CREATE FUNCTION search_term(organization_id uuid, name text, value jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN hashtextextended(
    organization_id::text || chr(31) || name || chr(31) || CASE jsonb_typeof(value)
        WHEN 'number' THEN 'n' || trim_scale((value #>> '{}')::numeric)::text
        WHEN 'string' THEN 's' || (value #>> '{}')
        ELSE 'b' || (value #>> '{}') END, 0);
CREATE FUNCTION search_terms(organization_id uuid, stac_id text, collection text, properties jsonb) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN ARRAY(
    SELECT search_term(organization_id, key, value) FROM jsonb_each(properties)
     WHERE jsonb_typeof(value) IN ('number', 'string', 'boolean')
    UNION ALL SELECT search_term(organization_id, 'id', to_jsonb(stac_id))
    UNION ALL SELECT search_term(organization_id, 'collection', to_jsonb(collection)));

ALTER TABLE item ADD COLUMN slot integer;
UPDATE item SET slot = (SELECT search_slot FROM organization o WHERE o.id = item.organization_id);
ALTER TABLE item
    ALTER COLUMN slot SET NOT NULL,
    ADD COLUMN place        box      GENERATED ALWAYS AS (extent + point(slot * 400.0, 0)) STORED,
    ADD COLUMN place_across box      GENERATED ALWAYS AS (extent_across + point(slot * 400.0, 0)) STORED,
    ADD COLUMN cell         integer  GENERATED ALWAYS AS (item_cell(extent, extent_across)) STORED,
    ADD COLUMN inside       box      GENERATED ALWAYS AS (box_inside(geometry)) STORED,
    -- As STAC shows them: what the columns do not say may be among the properties.
    ADD COLUMN shown_gsd    double precision GENERATED ALWAYS AS (coalesce(gsd,
        CASE WHEN jsonb_typeof(properties -> 'gsd') = 'number' THEN (properties ->> 'gsd')::double precision END)) STORED,
    ADD COLUMN shown_cloud_cover double precision GENERATED ALWAYS AS (coalesce(cloud_cover,
        CASE WHEN jsonb_typeof(properties -> 'eo:cloud_cover') = 'number'
             THEN (properties ->> 'eo:cloud_cover')::double precision END)) STORED,
    ADD COLUMN terms        bigint[] GENERATED ALWAYS AS (search_terms(organization_id, stac_id,
        coalesce(collection_id::text, 'project-' || project_id::text), properties)) STORED,
    ADD COLUMN lasts        interval GENERATED ALWAYS AS (upper(period) - lower(period)) STORED;

CREATE FUNCTION item_takes_slot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.slot := (SELECT search_slot FROM organization WHERE id = NEW.organization_id);
    RETURN NEW;
END
$$;
CREATE TRIGGER item_takes_slot BEFORE INSERT OR UPDATE OF organization_id ON item
    FOR EACH ROW EXECUTE FUNCTION item_takes_slot();

-- What lies somewhere at some time, and what the most common searches ask of it, without touching the items themselves.
DROP INDEX item_place_and_time;
CREATE INDEX item_by_place ON item USING gist (place, period)
    INCLUDE (id, stac_id, organization_id, project_id, collection_id, datetime, extent, extent_across, inside, shown_gsd,
             shown_cloud_cover)
    WHERE deleted_at IS NULL;
CREATE INDEX item_by_place_across ON item USING gist (place_across, period)
    WHERE deleted_at IS NULL AND place_across IS NOT NULL;
-- The newest of an organization, and of one collection; items that have no nominal time come last.
CREATE INDEX item_by_time ON item (organization_id, datetime DESC NULLS LAST, stac_id COLLATE "C", id)
    INCLUDE (project_id, collection_id, period, extent, extent_across, inside, shown_gsd, shown_cloud_cover)
    WHERE deleted_at IS NULL;
CREATE INDEX item_by_cell ON item (organization_id, cell, datetime DESC NULLS LAST, stac_id COLLATE "C", id)
    INCLUDE (project_id, collection_id, period, extent, extent_across, inside, shown_gsd, shown_cloud_cover)
    WHERE deleted_at IS NULL;
CREATE INDEX item_by_time_in_collection ON item (collection_id, datetime DESC NULLS LAST, stac_id COLLATE "C", id)
    WHERE deleted_at IS NULL;
CREATE INDEX item_by_stac_id ON item (organization_id, stac_id) WHERE deleted_at IS NULL;
CREATE INDEX item_by_terms ON item USING gin (terms) WHERE deleted_at IS NULL;
-- How long an organization's longest item lasts bounds where by its nominal time an item can be that meets an interval.
CREATE INDEX item_lasting ON item (organization_id, lasts) WHERE deleted_at IS NULL AND lasts > interval '0';

-- Which grids an organization's items are in, and how large the largest of each is.
CREATE INDEX item_by_grid ON item (organization_id, (cell / 1000000), (greatest(width(extent), height(extent))))
    WHERE deleted_at IS NULL;

-- The cells that hold everything of an organization whose box meets one of some boxes. In SQL the planner would look into it
-- and expect a hundred thousand.
CREATE FUNCTION cells_around(of_organization uuid, areas box[]) RETURNS SETOF integer LANGUAGE plpgsql STABLE ROWS 20 AS $$
BEGIN
    RETURN QUERY
    WITH grid AS MATERIALIZED (
        SELECT step, (SELECT max(greatest(width(extent), height(extent))) FROM item
                       WHERE organization_id = of_organization AND cell / 1000000 = step AND deleted_at IS NULL
                     ) / 2 + 0.00001 AS reach
          FROM unnest(ARRAY[1, 4, 16]) AS step
    )
    SELECT DISTINCT step * 1000000 + y * 1000 + x
      FROM grid CROSS JOIN unnest(areas) AS area
     CROSS JOIN generate_series(greatest(0, floor(((area[1])[1] + 90 - reach) / step)::integer),
                                floor(((area[0])[1] + 90 + reach) / step)::integer) AS y
     CROSS JOIN generate_series(greatest(0, floor(((area[1])[0] + 180 - reach) / step)::integer),
                                floor(((area[0])[0] + 180 + reach) / step)::integer) AS x
     WHERE reach IS NOT NULL
    UNION ALL SELECT 1000000000;
END
$$;

-- The items of one organization's world whose boxes meet one of two boxes, no more than `most`, and which of them are
-- `met` at some time in the range. That is told of each rather than asked of the index: where items lie over each other by the
-- thousand, it would go through all of them.
-- The planner takes matches of boxes to be rare wherever they are and would rather collect all of them first.
CREATE FUNCTION items_near(near box, near_across box, during tstzrange, most bigint)
RETURNS TABLE (id uuid, stac_id text, organization_id uuid, project_id uuid, collection_id uuid, datetime timestamptz, extent box,
               extent_across box, inside box, shown_gsd double precision, shown_cloud_cover double precision,
               met boolean)
LANGUAGE plpgsql STABLE ROWS 500
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT i.id, i.stac_id, i.organization_id, i.project_id, i.collection_id, i.datetime, i.extent, i.extent_across, i.inside,
           i.shown_gsd, i.shown_cloud_cover, i.period && during
      FROM item i
     WHERE i.deleted_at IS NULL
       AND i.place && near LIMIT most;
    IF near_across IS NOT NULL THEN
        RETURN QUERY
        SELECT i.id, i.stac_id, i.organization_id, i.project_id, i.collection_id, i.datetime, i.extent, i.extent_across, i.inside,
               i.shown_gsd, i.shown_cloud_cover, i.period && during
          FROM item i
         WHERE i.deleted_at IS NULL
           AND i.place && near_across AND NOT i.place && near LIMIT most;
    END IF;
    -- Few items lie across the antimeridian; their other half is in an index of its own.
    RETURN QUERY
    SELECT i.id, i.stac_id, i.organization_id, i.project_id, i.collection_id, i.datetime, i.extent, i.extent_across, i.inside,
           i.shown_gsd, i.shown_cloud_cover, i.period && during
      FROM item i
     WHERE i.deleted_at IS NULL
       AND i.place_across && near AND NOT i.place && near
       AND NOT coalesce(i.place && near_across, false) LIMIT most;
    IF near_across IS NOT NULL THEN
        RETURN QUERY
        SELECT i.id, i.stac_id, i.organization_id, i.project_id, i.collection_id, i.datetime, i.extent, i.extent_across, i.inside,
               i.shown_gsd, i.shown_cloud_cover, i.period && during
          FROM item i
         WHERE i.deleted_at IS NULL
           AND i.place_across && near_across AND NOT i.place_across && near
           AND NOT i.place && near AND NOT i.place && near_across LIMIT most;
    END IF;
END
$$;

-- Text as a time, if it is one; for properties that anybody may have written.
CREATE FUNCTION time_in(given text) RETURNS timestamptz LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF given !~ '^\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:?\d{2})?)?$' THEN
        RETURN NULL;
    END IF;
    RETURN given::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

-- The STAC feature of an item as it was last made, with marks where this deployment's address and signed links go. Whatever
-- changes the item or its assets empties it and counts the version on; who fills it names the version they have read, so that
-- what was made of older rows is never kept.
CREATE TABLE item_feature (
    item_id uuid   NOT NULL PRIMARY KEY REFERENCES item (id) ON DELETE CASCADE,
    version bigint NOT NULL DEFAULT 0,
    body    text,
    files   jsonb
);
ALTER TABLE item_feature ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO item_feature (item_id) SELECT id FROM item;

CREATE FUNCTION item_feature_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO item_feature (item_id) SELECT id FROM made;
    RETURN NULL;
END
$$;
CREATE TRIGGER item_feature_begins AFTER INSERT ON item REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION item_feature_begins();

CREATE FUNCTION item_feature_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE item_feature SET body = NULL, files = NULL, version = version + 1 WHERE item_id IN (SELECT id FROM changed);
    RETURN NULL;
END
$$;
CREATE TRIGGER item_feature_ends AFTER UPDATE ON item REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION item_feature_ends();

CREATE FUNCTION item_feature_ends_with_asset() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE item_feature SET body = NULL, files = NULL, version = version + 1 WHERE item_id IN (SELECT item_id FROM changed);
    RETURN NULL;
END
$$;
CREATE TRIGGER item_feature_ends_with_new_asset AFTER INSERT ON asset REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION item_feature_ends_with_asset();
CREATE TRIGGER item_feature_ends_with_asset AFTER UPDATE ON asset REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION item_feature_ends_with_asset();
CREATE TRIGGER item_feature_ends_without_asset AFTER DELETE ON asset REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION item_feature_ends_with_asset();
