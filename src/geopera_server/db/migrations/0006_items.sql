-- What was delivered: STAC items and their assets, in the collections of a project.

CREATE TABLE collection (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    project_id      uuid        NOT NULL REFERENCES project (id),
    name            text        NOT NULL,
    description     text,
    color           text,
    layer_order     integer     NOT NULL DEFAULT 0,
    show_on_map     boolean     NOT NULL DEFAULT true,
    auto_created    boolean     NOT NULL DEFAULT false,
    source_type     text        CHECK (source_type IN ('order', 'upload', 'job')),
    source_id       uuid,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    deleted_at      timestamptz
);
CREATE UNIQUE INDEX collection_name ON collection (project_id, lower(name)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX collection_of_order ON collection (source_id) WHERE source_type = 'order' AND deleted_at IS NULL;

CREATE TABLE item (
    id                 uuid        NOT NULL PRIMARY KEY,
    organization_id    uuid        NOT NULL REFERENCES organization (id),
    project_id         uuid        NOT NULL REFERENCES project (id),
    collection_id      uuid        REFERENCES collection (id),
    stac_id            text        NOT NULL,
    type               text        NOT NULL CHECK (type IN (
        'satellite_capture', 'derived_raster', 'derived_vector', 'clip', 'user_raster', 'user_vector', 'external_reference')),
    name               text        NOT NULL,
    description        text,
    datetime           timestamptz,
    start_datetime     timestamptz,
    end_datetime       timestamptz,
    period             tstzrange   NOT NULL,
    geometry           jsonb,
    bbox               double precision[],
    extent             box,
    extent_across      box,
    gsd                double precision,
    cloud_cover        double precision,
    properties         jsonb       NOT NULL DEFAULT '{}',
    stac_extensions    text[]      NOT NULL DEFAULT '{}',
    lifecycle_state    text        NOT NULL DEFAULT 'active'
                       CHECK (lifecycle_state IN ('active', 'expiring', 'archived', 'expired', 'deleted')),
    order_id           uuid        REFERENCES orders (id),
    job_id             uuid,
    upload_id          uuid,
    duplicated_from_id uuid,
    created_by         uuid,
    expires_at         timestamptz,
    archived_at        timestamptz,
    deleted_at         timestamptz,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL
);
CREATE UNIQUE INDEX item_stac_id ON item (project_id, stac_id) WHERE deleted_at IS NULL;
CREATE INDEX item_newest ON item (project_id, created_at DESC, id) WHERE deleted_at IS NULL;
CREATE INDEX item_by_collection ON item (collection_id, created_at DESC, id) WHERE deleted_at IS NULL;
CREATE INDEX item_by_order ON item (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX item_place_and_time ON item USING gist (extent, period) WHERE deleted_at IS NULL;

CREATE TABLE asset (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL,
    project_id      uuid        NOT NULL,
    item_id         uuid        NOT NULL REFERENCES item (id),
    key             text        NOT NULL,
    title           text,
    href            text        NOT NULL,   -- path in own storage, or an outside URL
    external        boolean     NOT NULL DEFAULT false,
    media_type      text        NOT NULL,
    roles           text[]      NOT NULL DEFAULT '{}',
    file_name       text        NOT NULL,
    file_size_bytes bigint      NOT NULL,
    checksum        text,
    band_names      text[]      NOT NULL DEFAULT '{}',
    band_count      integer,
    dtype           text,
    nodata          double precision,
    epsg            integer,
    width           integer,
    height          integer,
    gsd             double precision,
    is_cog          boolean,
    statistics      jsonb,
    raster          jsonb,                  -- transform, wkt2 and what else STAC's projection fields need
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    deleted_at      timestamptz
);
CREATE UNIQUE INDEX asset_key ON asset (item_id, key) WHERE deleted_at IS NULL;

-- A download counts once per asset, principal and lifetime of the URL that was issued.
CREATE TABLE egress_grant (
    asset_id        uuid        NOT NULL,
    principal_id    uuid        NOT NULL,
    organization_id uuid        NOT NULL,
    bytes           bigint      NOT NULL,
    issued_at       timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (asset_id, principal_id, issued_at)
);
CREATE INDEX egress_grant_month ON egress_grant (organization_id, issued_at);
