-- Buying credits with a card: one row per charge, kept before any money moves.

-- The deployment's terms, changed by editing the row.
CREATE TABLE billing_terms (
    only_row                      boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    tax_name                      text    NOT NULL DEFAULT 'GST',
    tax_percent                   integer NOT NULL DEFAULT 10 CHECK (tax_percent BETWEEN 0 AND 100),
    minimum_topup_credits         bigint  NOT NULL DEFAULT 500 CHECK (minimum_topup_credits > 0),
    minimum_charge_credits        bigint  NOT NULL DEFAULT 50 CHECK (minimum_charge_credits > 0),
    approval_threshold_credits    bigint  NOT NULL DEFAULT 500000,   -- for organizations that set none of their own
    approval_hours                integer NOT NULL DEFAULT 72,
    auto_topup_daily_cap_credits  bigint  NOT NULL DEFAULT 100000,
    signup_grant_credits          bigint  NOT NULL DEFAULT 1000 CHECK (signup_grant_credits >= 0),
    monthly_grant_credits         bigint  NOT NULL DEFAULT 500 CHECK (monthly_grant_credits >= 0),
    days_until_suspension         integer NOT NULL DEFAULT 14,
    invoice_due_days              integer NOT NULL DEFAULT 30
);
INSERT INTO billing_terms DEFAULT VALUES;

-- Who an organization is at the processor.
CREATE TABLE payment_customer (
    organization_id uuid        NOT NULL REFERENCES organization (id),
    processor       text        NOT NULL,
    customer_id     text        NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, processor),
    UNIQUE (processor, customer_id)
);

CREATE TABLE payment_method (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    processor       text        NOT NULL,
    method_id       text        NOT NULL,   -- the processor's own id
    brand           text        NOT NULL,
    last4           text        NOT NULL CHECK (last4 ~ '^[0-9]{4}$'),
    exp_month       integer     NOT NULL CHECK (exp_month BETWEEN 1 AND 12),
    exp_year        integer     NOT NULL,
    holder_name     text,
    is_default      boolean     NOT NULL DEFAULT false,
    requires_action boolean     NOT NULL DEFAULT false,   -- its last charge asked for the card holder
    created_at      timestamptz NOT NULL,
    detached_at     timestamptz,
    CHECK (NOT (is_default AND detached_at IS NOT NULL))
);
CREATE UNIQUE INDEX payment_method_live ON payment_method (processor, method_id) WHERE detached_at IS NULL;
CREATE UNIQUE INDEX payment_method_has_one_default ON payment_method (organization_id) WHERE is_default;
CREATE INDEX payment_method_by_organization ON payment_method (organization_id, created_at DESC);

-- One charge of a card. `purpose` names what it is bought for, so that a repeat of the same call finds it again.
-- created: nothing asked of the processor that could move money. confirming: the intent's id is kept and may be confirmed.
CREATE TABLE topup (
    id                uuid        NOT NULL PRIMARY KEY,
    organization_id   uuid        NOT NULL REFERENCES organization (id),
    kind              text        NOT NULL CHECK (kind IN ('manual', 'auto', 'approval', 'shortfall')),
    purpose           text        NOT NULL,
    attempt           integer     NOT NULL CHECK (attempt > 0),
    credits           bigint      NOT NULL CHECK (credits > 0),
    tax_credits       bigint      NOT NULL CHECK (tax_credits >= 0),
    claimed_credits   bigint      NOT NULL DEFAULT 0,   -- what the spend it is for will take from the balance besides
    state             text        NOT NULL CHECK (state IN (
        'created', 'confirming', 'requires_action', 'succeeded', 'failed', 'canceled')),
    processor         text        NOT NULL,
    customer_id       text        NOT NULL,
    payment_method_id uuid        NOT NULL REFERENCES payment_method (id),
    method_id         text        NOT NULL,
    intent_id         text,
    client_secret     text,
    failure_code      text,
    failure_message   text,
    receipt_url       text,
    approval_id       uuid,
    project_id        uuid,
    principal_id      uuid,
    api_key_id        uuid,
    invocation_id     uuid        NOT NULL,
    holder            uuid        NOT NULL,   -- the call that is at work on it
    held_until        timestamptz NOT NULL,   -- by when it will be done or dead
    look_after        timestamptz NOT NULL,   -- when somebody else looks what became of it
    ledger_entry_id   uuid        REFERENCES ledger_entry (id),
    reversed_credits  bigint      NOT NULL DEFAULT 0 CHECK (reversed_credits BETWEEN 0 AND credits),
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    UNIQUE (organization_id, purpose, attempt),
    CHECK ((intent_id IS NULL) <= (state IN ('created', 'failed', 'canceled'))),
    CHECK ((ledger_entry_id IS NOT NULL) <= (state = 'succeeded'))
);
-- One charge at a time for one purpose.
CREATE UNIQUE INDEX topup_open ON topup (organization_id, purpose) WHERE state IN ('created', 'confirming', 'requires_action');
CREATE UNIQUE INDEX topup_intent ON topup (processor, intent_id) WHERE intent_id IS NOT NULL;
CREATE INDEX topup_newest ON topup (organization_id, created_at DESC, id DESC);
CREATE INDEX topup_unfinished ON topup (look_after)
    WHERE state IN ('created', 'confirming', 'requires_action') OR (state = 'succeeded' AND ledger_entry_id IS NULL);

-- A card top-up that succeeded is money: what was charged, for whom and how much never changes, and it is never un-said.
CREATE FUNCTION topup_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.organization_id, NEW.kind, NEW.purpose, NEW.attempt, NEW.credits, NEW.processor)
       IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.kind, OLD.purpose, OLD.attempt, OLD.credits, OLD.processor)
       OR (OLD.intent_id IS NOT NULL AND NEW.intent_id IS DISTINCT FROM OLD.intent_id)
       OR (OLD.state = 'succeeded' AND NEW.state <> 'succeeded')
       OR (OLD.ledger_entry_id IS NOT NULL AND NEW.ledger_entry_id IS DISTINCT FROM OLD.ledger_entry_id)
       OR NEW.reversed_credits < OLD.reversed_credits THEN
        RAISE EXCEPTION 'what a top-up has become stays' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER topup_keeps BEFORE UPDATE ON topup FOR EACH ROW EXECUTE FUNCTION topup_keeps();
CREATE TRIGGER topup_stays BEFORE DELETE OR TRUNCATE ON topup FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What the processor has told us, each event once.
CREATE TABLE payment_event (
    processor   text        NOT NULL,
    event_id    text        NOT NULL,
    type        text        NOT NULL,
    intent_id   text,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (processor, event_id)
);

-- What an organization has set about its wallet, and where that stands.
CREATE TABLE wallet (
    organization_id        uuid    NOT NULL PRIMARY KEY REFERENCES organization (id),
    auto_topup             boolean NOT NULL DEFAULT false,
    threshold_credits      bigint  CHECK (threshold_credits > 0),
    topup_amount_credits   bigint  CHECK (topup_amount_credits > 0),
    daily_cap_credits      bigint  CHECK (daily_cap_credits > 0),
    failures_in_a_row      integer NOT NULL DEFAULT 0,
    last_error             text,
    last_topup_at          timestamptz,
    retry_after            timestamptz,           -- no automatic charge before, after one that was refused
    last_purchase_credits  bigint  NOT NULL DEFAULT 0,
    low_alerted            boolean NOT NULL DEFAULT false,
    CHECK (NOT auto_topup OR (threshold_credits IS NOT NULL AND topup_amount_credits IS NOT NULL))
);

-- Enterprise spends name who spent, as entries do.
ALTER TABLE accrual ADD COLUMN job_id uuid, ADD COLUMN project_id uuid, ADD COLUMN principal_id uuid,
    ADD COLUMN api_key_id uuid, ADD COLUMN invocation_id uuid;
CREATE INDEX ledger_entry_by_topup ON ledger_entry (topup_id) WHERE topup_id IS NOT NULL;
CREATE INDEX ledger_entry_by_invocation ON ledger_entry (invocation_id);
