-- Credits: one account per organization, append-only entries, holds.
-- The rules stand here and not only in code: an entry moves the account and its hold itself, nothing else can,
-- and a movement that would break a rule is refused whoever writes it.

CREATE TABLE ledger_account (
    organization_id uuid   NOT NULL PRIMARY KEY REFERENCES organization (id),
    balance         bigint NOT NULL DEFAULT 0,   -- spendable: the sum of all signed entries
    reserved        bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),   -- the sum of what open holds still hold
    entry_count     bigint NOT NULL DEFAULT 0
);

CREATE TABLE ledger_hold (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES ledger_account (organization_id),
    order_id        uuid,
    job_id          uuid,
    reserved        bigint      NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    settled         bigint      NOT NULL DEFAULT 0 CHECK (settled >= 0),
    released        bigint      NOT NULL DEFAULT 0 CHECK (released >= 0),
    remaining       bigint      GENERATED ALWAYS AS (reserved - settled - released) STORED CHECK (remaining >= 0),
    created_at      timestamptz NOT NULL,
    CHECK ((order_id IS NULL) <> (job_id IS NULL))
);
CREATE UNIQUE INDEX ledger_hold_of_order ON ledger_hold (order_id) WHERE order_id IS NOT NULL;
CREATE UNIQUE INDEX ledger_hold_of_job ON ledger_hold (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX ledger_hold_open ON ledger_hold (organization_id) WHERE remaining > 0;

CREATE TABLE ledger_entry (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES ledger_account (organization_id),
    number          bigint      NOT NULL,   -- dense per account
    created_at      timestamptz NOT NULL,
    reason          text        NOT NULL CHECK (reason IN (
        'signup_grant', 'monthly_grant', 'operator_grant', 'topup', 'auto_topup', 'approval_purchase', 'shortfall_charge',
        'reserve', 'release', 'settle', 'refund', 'charge_adjustment', 'plan_fee', 'storage_overage', 'tile_overage',
        'egress_overage', 'share_tiles', 'correction')),
    credits         bigint      NOT NULL,
    reserved_delta  bigint      NOT NULL DEFAULT 0,
    balance_after   bigint      NOT NULL,
    reserved_after  bigint      NOT NULL,
    hold_id         uuid        REFERENCES ledger_hold (id),
    project_id      uuid,
    order_id        uuid,
    job_id          uuid,
    topup_id        uuid,
    approval_id     uuid,
    invoice_id      uuid,
    principal_id    uuid,
    api_key_id      uuid,
    invocation_id   uuid        NOT NULL,
    external_ref    text        NOT NULL,   -- what makes this posting unique within its reason: nothing is ever posted twice
    note            text,
    UNIQUE (organization_id, number),
    UNIQUE (reason, external_ref),
    CHECK ((hold_id IS NOT NULL) = (reason IN ('reserve', 'release', 'settle'))),
    CHECK (CASE reason
        WHEN 'reserve' THEN credits < 0 AND reserved_delta = -credits
        WHEN 'release' THEN credits > 0 AND reserved_delta = -credits
        WHEN 'settle'  THEN credits = 0 AND reserved_delta < 0
        ELSE reserved_delta = 0 AND credits <> 0 END),
    CHECK (reason NOT IN ('signup_grant', 'monthly_grant', 'topup', 'auto_topup', 'approval_purchase', 'shortfall_charge', 'refund')
           OR credits > 0)
);
CREATE INDEX ledger_entry_newest ON ledger_entry (organization_id, number DESC);
CREATE INDEX ledger_entry_by_order ON ledger_entry (order_id) WHERE order_id IS NOT NULL;

CREATE FUNCTION ledger_entry_moves_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger_account
       SET balance = balance + NEW.credits, reserved = reserved + NEW.reserved_delta, entry_count = entry_count + 1
     WHERE organization_id = NEW.organization_id
    RETURNING entry_count, balance, reserved INTO NEW.number, NEW.balance_after, NEW.reserved_after;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'organization % has no ledger account', NEW.organization_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    -- Only an operator's correction may leave an account below zero.
    IF NEW.credits < 0 AND NEW.balance_after < 0 AND NEW.reason <> 'correction' THEN
        RAISE EXCEPTION 'insufficient credits' USING ERRCODE = 'GP001',
            DETAIL = format('%s needed, %s available', -NEW.credits, NEW.balance_after - NEW.credits);
    END IF;
    IF NEW.hold_id IS NOT NULL THEN
        UPDATE ledger_hold
           SET reserved = reserved + CASE WHEN NEW.reason = 'reserve' THEN NEW.reserved_delta ELSE 0 END,
               settled  = settled  + CASE WHEN NEW.reason = 'settle'  THEN -NEW.reserved_delta ELSE 0 END,
               released = released + CASE WHEN NEW.reason = 'release' THEN -NEW.reserved_delta ELSE 0 END
         WHERE id = NEW.hold_id AND organization_id = NEW.organization_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'hold % does not belong to organization %', NEW.hold_id, NEW.organization_id
                USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;

-- Account and hold figures change only through the trigger above, one level down.
CREATE FUNCTION refuse_direct_figures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION '% changes only by posting a ledger entry', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION refuse_opening_figures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (TG_TABLE_NAME = 'ledger_account' AND (to_jsonb(NEW) ->> 'balance')::bigint <> 0) OR NEW.reserved <> 0 THEN
        RAISE EXCEPTION '% opens empty', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER ledger_entry_moves BEFORE INSERT ON ledger_entry FOR EACH ROW EXECUTE FUNCTION ledger_entry_moves_account();
CREATE TRIGGER ledger_entry_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_account_guarded BEFORE UPDATE ON ledger_account FOR EACH ROW EXECUTE FUNCTION refuse_direct_figures();
CREATE TRIGGER ledger_account_stays BEFORE DELETE OR TRUNCATE ON ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_account_empty BEFORE INSERT ON ledger_account FOR EACH ROW EXECUTE FUNCTION refuse_opening_figures();
CREATE TRIGGER ledger_hold_guarded BEFORE UPDATE ON ledger_hold FOR EACH ROW EXECUTE FUNCTION refuse_direct_figures();
CREATE TRIGGER ledger_hold_stays BEFORE DELETE OR TRUNCATE ON ledger_hold
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_hold_empty BEFORE INSERT ON ledger_hold FOR EACH ROW EXECUTE FUNCTION refuse_opening_figures();

INSERT INTO ledger_account (organization_id) SELECT id FROM organization;

-- Enterprise organizations accrue instead of reserving.
CREATE TABLE accrual (
    order_id        uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    credits         bigint      NOT NULL CHECK (credits >= 0),
    created_at      timestamptz NOT NULL,
    billable_at     timestamptz,
    reversed_at     timestamptz
);
CREATE INDEX accrual_by_organization ON accrual (organization_id, created_at);

-- Plans are deployment data: these are example values, changed by editing the rows.
CREATE TABLE plan (
    id                  text    NOT NULL PRIMARY KEY,
    name                text    NOT NULL,
    description         text    NOT NULL,
    price_credits_monthly bigint NOT NULL,
    included            jsonb   NOT NULL,
    limits              jsonb   NOT NULL,
    overage             jsonb   NOT NULL,
    features            jsonb   NOT NULL,
    self_service        boolean NOT NULL,
    position            integer NOT NULL
);
