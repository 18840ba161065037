-- Orders, what was priced, and what happened to them.

CREATE TABLE orders (
    id                   uuid        NOT NULL PRIMARY KEY,
    organization_id      uuid        NOT NULL REFERENCES organization (id),
    project_id           uuid        NOT NULL REFERENCES project (id),
    type                 text        NOT NULL CHECK (type IN ('archive', 'tasking')),
    status               text        NOT NULL CHECK (status IN (
        'created', 'processing', 'fulfilling', 'fulfilled', 'placement_failed', 'failed', 'cancelled')),
    sub_status           text,
    display_name         text        NOT NULL,
    tags                 text[]      NOT NULL DEFAULT '{}',
    billing_mode         text        NOT NULL CHECK (billing_mode IN ('credit', 'card', 'enterprise')),
    total_credits        bigint      NOT NULL CHECK (total_credits >= 0),
    license_type         text        NOT NULL,
    params               jsonb       NOT NULL DEFAULT '{}',
    data_product_id      text,
    aoi                  jsonb,
    target_collection_id uuid,
    collection_id        uuid,
    estimated_delivery   timestamptz,
    failure_reason       text,
    failure_details      jsonb,
    created_by           uuid,
    created_by_type      text        NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    fulfilled_at         timestamptz,
    cancelled_at         timestamptz,
    CHECK ((status = 'fulfilled') = (fulfilled_at IS NOT NULL)),
    CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL)),
    CHECK (status NOT IN ('failed', 'placement_failed') OR failure_reason IS NOT NULL)
);
CREATE INDEX orders_newest ON orders (organization_id, created_at DESC, id);
CREATE INDEX orders_by_project ON orders (project_id, created_at DESC);

-- Terminal states are final, whoever writes.
CREATE FUNCTION order_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> NEW.status AND NOT (NEW.status = ANY (CASE OLD.status
        WHEN 'created' THEN ARRAY['processing', 'failed', 'cancelled']
        WHEN 'processing' THEN ARRAY['fulfilling', 'fulfilled', 'placement_failed', 'failed', 'cancelled']
        WHEN 'placement_failed' THEN ARRAY['processing', 'failed', 'cancelled']
        WHEN 'fulfilling' THEN ARRAY['fulfilled', 'failed']
        ELSE ARRAY[]::text[] END)) THEN
        RAISE EXCEPTION 'an order cannot go from % to %', OLD.status, NEW.status USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_move_forward BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_moves_forward();

CREATE TABLE order_group (
    id              uuid   NOT NULL PRIMARY KEY,
    order_id        uuid   NOT NULL REFERENCES orders (id),
    organization_id uuid   NOT NULL,
    position        integer NOT NULL,
    credits         bigint NOT NULL CHECK (credits >= 0),
    priced          jsonb  NOT NULL,   -- the PriceGroup as ordered
    settled_at      timestamptz,
    UNIQUE (order_id, position)
);

-- The capture as it was found when ordered: a host may forget it, the order does not.
CREATE TABLE order_capture (
    order_id        uuid    NOT NULL REFERENCES orders (id),
    group_id        uuid    NOT NULL REFERENCES order_group (id),
    organization_id uuid    NOT NULL,
    position        integer NOT NULL,
    host            text    NOT NULL,
    capture_id      text    NOT NULL,
    aoi             jsonb,             -- null: the whole footprint
    found           jsonb   NOT NULL,
    item_id         uuid,
    delivered_at    timestamptz,
    PRIMARY KEY (order_id, position)
);

CREATE TABLE order_event (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id      uuid        NOT NULL REFERENCES orders (id),
    organization_id uuid      NOT NULL,
    at            timestamptz NOT NULL,
    type          text        NOT NULL,
    status        text        NOT NULL,
    sub_status    text,
    actor_type    text        NOT NULL,
    note          text,
    operator_only boolean     NOT NULL DEFAULT false,
    data          jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX order_event_by_order ON order_event (order_id, id);
