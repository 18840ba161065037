-- What organizations let others look at without an account: links with a password, and keys for maps.

CREATE TABLE share_link (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    project_id      uuid        NOT NULL,
    target_type     text        NOT NULL CHECK (target_type IN ('item', 'collection')),
    target_id       uuid        NOT NULL,
    permission      text        NOT NULL CHECK (permission IN ('view', 'download')),
    token_hash      bytea       NOT NULL UNIQUE,   -- keyed digest; the token itself is shown once and not kept
    token_prefix    text        NOT NULL,
    password_hash   text        NOT NULL,          -- argon2id
    created_by      uuid,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);
CREATE INDEX share_link_newest ON share_link (organization_id, created_at DESC, id DESC);
CREATE INDEX share_link_of_project ON share_link (project_id);
CREATE INDEX share_link_of_target ON share_link (target_id) WHERE revoked_at IS NULL;

-- Apart from the link, which never changes but to end: this row changes with every tile.
CREATE TABLE share_use (
    link_id          uuid        NOT NULL PRIMARY KEY REFERENCES share_link (id) ON DELETE CASCADE,
    access_count     bigint      NOT NULL DEFAULT 0,
    last_accessed_at timestamptz,
    tile_requests    bigint      NOT NULL DEFAULT 0,
    egress_bytes     bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- The last accesses of each link. Of an address only the network is kept: /24, or /48 of IPv6.
CREATE TABLE share_access (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    link_id   uuid        NOT NULL REFERENCES share_link (id) ON DELETE CASCADE,
    at        timestamptz NOT NULL,
    kind      text        NOT NULL CHECK (kind IN ('validate', 'tilejson', 'download')),
    ip_prefix text
);
CREATE INDEX share_access_of_link ON share_access (link_id, id DESC);

-- Passwords that were tried and not proven right, by link and visitor: id of the try -> seconds since 1970.
CREATE TABLE share_attempt (
    link_id uuid        NOT NULL REFERENCES share_link (id) ON DELETE CASCADE,
    visitor bytea       NOT NULL,                  -- keyed digest of the address, or of the /64 of IPv6
    tries   jsonb       NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (link_id, visitor)
);

-- Keys for the tiles of one item or of a collection's items; a key is a sealed text that names its row, so none is kept.
CREATE TABLE tile_key (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    project_id      uuid        NOT NULL,
    target_type     text        NOT NULL CHECK (target_type IN ('item', 'collection')),
    target_id       uuid        NOT NULL,
    name            text        NOT NULL,
    created_by      uuid,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);
CREATE INDEX tile_key_newest ON tile_key (organization_id, created_at DESC, id DESC);
CREATE INDEX tile_key_of_project ON tile_key (project_id);
CREATE INDEX tile_key_of_target ON tile_key (target_id) WHERE revoked_at IS NULL;
