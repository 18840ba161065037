-- Where captures are found, and what they cost.

CREATE TABLE catalog_source (
    id           text        NOT NULL PRIMARY KEY,   -- also the host name that searches and captures give
    title        text        NOT NULL,
    description  text        NOT NULL,
    access_model text        NOT NULL,               -- open | commercial
    scope        text        NOT NULL,               -- global | regional | national
    countries    text[]      NOT NULL DEFAULT '{}',
    attribution  text        NOT NULL DEFAULT '',
    license      text        NOT NULL DEFAULT '',
    vendor       text        NOT NULL,
    collections  jsonb       NOT NULL DEFAULT '[]',  -- CollectionDTO rows
    connector    jsonb       NOT NULL,               -- {kind: stac|index, url?, auth_ref?}
    coverage     jsonb,                              -- GeoJSON; null is the whole Earth
    active       boolean     NOT NULL DEFAULT true,
    updated_at   timestamptz NOT NULL
);

-- Captures that the platform knows itself: an owner's archive, or a local mirror of a host for when it cannot be reached.
-- A footprint across the antimeridian has its eastern part in extent_across.
CREATE TABLE scene (
    host          text        NOT NULL REFERENCES catalog_source (id),
    id            text        NOT NULL,
    collection    text        NOT NULL,
    vendor        text        NOT NULL,
    resolution    text        NOT NULL,   -- the price book's label, such as 0.5m; empty when unknown
    captured_at   timestamptz NOT NULL,
    period        tstzrange   NOT NULL,
    footprint     jsonb       NOT NULL,
    extent        box         NOT NULL,
    extent_across box,
    properties    jsonb       NOT NULL,
    assets        jsonb       NOT NULL,
    updated_at    timestamptz NOT NULL,
    deleted_at    timestamptz,
    PRIMARY KEY (host, id),
    CHECK (period @> captured_at)
);
CREATE INDEX scene_place_and_time ON scene USING gist (extent, period) WHERE deleted_at IS NULL;
CREATE INDEX scene_place_across ON scene USING gist (extent_across) WHERE extent_across IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX scene_newest ON scene (host, collection, captured_at DESC, id) WHERE deleted_at IS NULL;
CREATE INDEX scene_by_id ON scene (id) WHERE deleted_at IS NULL;

-- What kinds of scenes a host has had, so that nobody needs to look through all of them.
CREATE TABLE scene_kind (
    host       text     NOT NULL REFERENCES catalog_source (id),
    collection text     NOT NULL,
    vendor     text     NOT NULL,
    resolution text     NOT NULL,
    longest    interval NOT NULL,   -- no scene of this kind lasts longer; bounds searches by captured_at
    PRIMARY KEY (host, collection, vendor, resolution)
);

-- Says whether that many scenes lie in either box at some time in the range, looking at no more than it must. The planner takes
-- matches of boxes to be rare wherever they are, so it would rather read all of them, or the whole table.
CREATE FUNCTION many_scenes_within(place box, place_across box, during tstzrange, few bigint) RETURNS boolean
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT count(*) >= few FROM (
        (SELECT 1 FROM scene WHERE deleted_at IS NULL AND extent && place AND period && during LIMIT few)
        UNION ALL
        (SELECT 1 FROM scene WHERE deleted_at IS NULL AND extent && place_across AND period && during LIMIT few)
        UNION ALL
        (SELECT 1 FROM scene WHERE deleted_at IS NULL AND extent_across && place AND period && during LIMIT few)
        UNION ALL
        (SELECT 1 FROM scene WHERE deleted_at IS NULL AND extent_across && place_across AND period && during LIMIT few)
    ) AS there
$$;

-- Says whether a host has that many scenes between two times, looking at no more than it must.
CREATE FUNCTION many_scenes_between(of_host text, starts_at timestamptz, ends_at timestamptz, few bigint) RETURNS boolean
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT count(*) >= few FROM (
        SELECT 1 FROM scene_kind AS kind CROSS JOIN LATERAL (
            SELECT 1 FROM scene
             WHERE scene.host = kind.host AND scene.collection = kind.collection AND scene.deleted_at IS NULL
               AND scene.captured_at BETWEEN starts_at - kind.longest AND ends_at + kind.longest LIMIT few
        ) AS found
         WHERE kind.host = of_host LIMIT few
    ) AS counted
$$;

-- Replies of outside hosts, compressed: fresh for ten minutes, and the last good answer when the host is down.
CREATE TABLE host_reply (
    host       text        NOT NULL REFERENCES catalog_source (id),
    query_hash text        NOT NULL,
    reply      bytea       NOT NULL,
    fetched_at timestamptz NOT NULL,
    PRIMARY KEY (host, query_hash)
);
ALTER TABLE host_reply ALTER COLUMN reply SET STORAGE EXTERNAL;
CREATE INDEX host_reply_age ON host_reply (fetched_at);

CREATE TABLE price_rule (
    id                 uuid           NOT NULL PRIMARY KEY,
    organization_id    uuid           NOT NULL REFERENCES organization (id),   -- the platform's rows are the list prices
    vendor             text           NOT NULL,
    resolution         text           NOT NULL,   -- a label such as 0.5m, or any
    capture_type       text           NOT NULL CHECK (capture_type IN ('archive', 'tasking')),
    price_per_sqkm_aud numeric(12, 4) NOT NULL CHECK (price_per_sqkm_aud >= 0),
    min_area_sqkm      numeric(12, 4) NOT NULL DEFAULT 0 CHECK (min_area_sqkm >= 0),
    max_area_sqkm      numeric(12, 4) CHECK (max_area_sqkm > min_area_sqkm),
    updated_by         text,
    created_at         timestamptz    NOT NULL,
    updated_at         timestamptz    NOT NULL
);
CREATE INDEX price_rule_key ON price_rule (organization_id, vendor, resolution, capture_type);

CREATE TABLE license_factor (
    license_type text          NOT NULL PRIMARY KEY,
    factor       numeric(6, 3) NOT NULL CHECK (factor >= 0)
);
INSERT INTO license_factor VALUES ('standard', 1), ('extended', 1.5), ('public_display', 2), ('open', 0);
