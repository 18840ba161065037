-- How items are shown: the pictures that somebody, a sensor's rules or an asset's statistics have described.

CREATE TABLE visualization_profile (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    item_id         uuid        NOT NULL REFERENCES item (id) ON DELETE CASCADE,
    name            text        NOT NULL,
    layer           text        NOT NULL CHECK (layer IN ('sensor', 'auto', 'user')),
    type            text        NOT NULL CHECK (type IN ('rgb', 'singleband', 'multiband', 'expression')),
    config          jsonb       NOT NULL,
    asset_key       text,                   -- null: the item's first raster
    is_default      boolean     NOT NULL DEFAULT false,
    sort_order      integer     NOT NULL DEFAULT 0,
    version         integer     NOT NULL DEFAULT 1,
    created_by      uuid,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE UNIQUE INDEX visualization_profile_name ON visualization_profile (item_id, lower(name));
CREATE UNIQUE INDEX visualization_profile_default ON visualization_profile (item_id) WHERE is_default;

-- Tiles of a file are asked for by where it lies.
CREATE INDEX asset_by_href ON asset (organization_id, href) WHERE deleted_at IS NULL;
