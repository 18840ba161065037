-- What the test processor remembers, as a real one would on its own machines: nothing of the house refers to these tables, and
-- they are written through connections of their own, whatever becomes of the call that asked.

CREATE TABLE test_processor_customer (
    id              text        NOT NULL PRIMARY KEY,
    organization_id text        NOT NULL,
    name            text        NOT NULL,
    email           text,
    created_at      timestamptz NOT NULL
);

CREATE TABLE test_processor_card (
    id          text        NOT NULL PRIMARY KEY,
    card        text        NOT NULL,   -- which of the test cards it is, and with that how it behaves
    customer_id text        REFERENCES test_processor_customer (id),
    created_at  timestamptz NOT NULL
);

CREATE TABLE test_processor_setup (
    id            text        NOT NULL PRIMARY KEY,
    customer_id   text        NOT NULL REFERENCES test_processor_customer (id),
    client_secret text        NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL
);

CREATE TABLE test_processor_intent (
    id              text        NOT NULL PRIMARY KEY,
    customer_id     text        NOT NULL REFERENCES test_processor_customer (id),
    method_id       text        NOT NULL REFERENCES test_processor_card (id),
    status          text        NOT NULL CHECK (status IN (
        'requires_confirmation', 'requires_action', 'processing', 'succeeded', 'failed', 'canceled')),
    amount_cents    bigint      NOT NULL CHECK (amount_cents > 0),
    currency        text        NOT NULL,
    client_secret   text        NOT NULL UNIQUE,
    metadata        jsonb       NOT NULL,
    decline_code    text,
    failure_message text,
    reversed_cents  bigint      NOT NULL DEFAULT 0 CHECK (reversed_cents BETWEEN 0 AND amount_cents),
    created_at      timestamptz NOT NULL
);
CREATE INDEX test_processor_intent_by_customer ON test_processor_intent (customer_id, created_at DESC);

-- Idempotency keys: what was asked under each, and what it made.
CREATE TABLE test_processor_request (
    key        text        NOT NULL PRIMARY KEY,
    digest     text        NOT NULL,
    object_id  text        NOT NULL,
    created_at timestamptz NOT NULL
);
