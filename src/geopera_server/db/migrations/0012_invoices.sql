-- Paying afterwards: what is owed, the invoices that bill it, and areas promised over a term.

CREATE TABLE invoice_counter (
    year   integer NOT NULL PRIMARY KEY,
    latest integer NOT NULL CHECK (latest > 0)
);

CREATE TABLE invoice (
    id               uuid        NOT NULL PRIMARY KEY,
    number           text        NOT NULL UNIQUE,   -- without gaps within a year
    organization_id  uuid        NOT NULL REFERENCES organization (id),
    kind             text        NOT NULL CHECK (kind IN ('enterprise', 'statement')),
    period           text        NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    status           text        NOT NULL CHECK (status IN ('draft', 'issued', 'paid', 'void')),
    currency         text        NOT NULL DEFAULT 'AUD',
    total_credits    bigint      NOT NULL CHECK (total_credits >= 0),
    tax_credits      bigint      NOT NULL CHECK (tax_credits >= 0 AND tax_credits <= total_credits),   -- contained in the total
    reference        text,
    note             text,
    status_reference text,
    created_at       timestamptz NOT NULL,
    issued_at        timestamptz,
    due_at           timestamptz,
    paid_at          timestamptz,
    voided_at        timestamptz,
    principal_id     uuid,
    invocation_id    uuid        NOT NULL,
    UNIQUE (organization_id, reference),
    CHECK (kind <> 'enterprise' OR reference IS NOT NULL),
    CHECK (status NOT IN ('issued', 'paid') OR (issued_at IS NOT NULL AND due_at IS NOT NULL)),
    CHECK ((status = 'paid') = (paid_at IS NOT NULL)),
    CHECK ((status = 'void') = (voided_at IS NOT NULL))
);
CREATE INDEX invoice_newest ON invoice (organization_id, created_at DESC, id DESC);
CREATE UNIQUE INDEX invoice_one_statement ON invoice (organization_id, period) WHERE kind = 'statement' AND status <> 'void';

CREATE TABLE invoice_line (
    invoice_id         uuid    NOT NULL REFERENCES invoice (id),
    position           integer NOT NULL,
    organization_id    uuid    NOT NULL,
    kind               text    NOT NULL,
    description        text    NOT NULL,
    order_id           uuid,
    job_id             uuid,
    commitment_id      uuid,
    sqkm               numeric(16, 4) CHECK (sqkm >= 0),   -- the promised area that a line has used up
    quantity           numeric NOT NULL,
    unit               text    NOT NULL,
    unit_price_credits numeric NOT NULL,
    credits            bigint  NOT NULL,
    subject_id         uuid    GENERATED ALWAYS AS (coalesce(order_id, job_id)) STORED,
    PRIMARY KEY (invoice_id, position),
    CHECK ((sqkm IS NULL) = (commitment_id IS NULL))
);
CREATE INDEX invoice_line_by_subject ON invoice_line (invoice_id, subject_id);
CREATE INDEX invoice_line_by_commitment ON invoice_line (commitment_id) WHERE commitment_id IS NOT NULL;

CREATE INDEX ledger_entry_by_invoice ON ledger_entry (invoice_id) WHERE invoice_id IS NOT NULL;

-- An invoice is what its lines say: once its transaction ends, and after whatever adds lines to it.
CREATE FUNCTION invoice_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lines bigint;
BEGIN
    SELECT coalesce(sum(credits), 0) INTO lines FROM invoice_line WHERE invoice_id = NEW.id;
    IF NEW.total_credits <> lines THEN
        RAISE EXCEPTION 'invoice % is of % credits and its lines of %', NEW.id, NEW.total_credits, lines
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER invoice_adds_up AFTER INSERT ON invoice
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoice_adds_up();

CREATE FUNCTION invoice_lines_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM invoice i JOIN invoice_line l ON l.invoice_id = i.id
                WHERE i.id IN (SELECT invoice_id FROM added) GROUP BY i.id HAVING i.total_credits <> sum(l.credits)) THEN
        RAISE EXCEPTION 'the lines of an invoice are written at once and add up' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER invoice_lines_add_up AFTER INSERT ON invoice_line REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION invoice_lines_add_up();

-- Of an invoice only its status moves on, and only forward.
CREATE FUNCTION invoice_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moving text[] := ARRAY['status', 'status_reference', 'issued_at', 'due_at', 'paid_at', 'voided_at'];
BEGIN
    IF (to_jsonb(NEW) - moving) IS DISTINCT FROM (to_jsonb(OLD) - moving) THEN
        RAISE EXCEPTION 'an invoice stays as it was issued' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.issued_at IS NOT NULL AND (NEW.issued_at, NEW.due_at) IS DISTINCT FROM (OLD.issued_at, OLD.due_at) THEN
        RAISE EXCEPTION 'an invoice is issued once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.status <> OLD.status AND NOT (NEW.status = ANY (CASE OLD.status
        WHEN 'draft' THEN ARRAY['issued', 'void']
        WHEN 'issued' THEN ARRAY['paid', 'void']
        ELSE ARRAY[]::text[] END)) THEN
        RAISE EXCEPTION 'an invoice cannot go from % to %', OLD.status, NEW.status USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_keeps BEFORE UPDATE ON invoice FOR EACH ROW EXECUTE FUNCTION invoice_keeps();
CREATE TRIGGER invoice_stays BEFORE DELETE OR TRUNCATE ON invoice FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_line_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_line
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_counter_stays BEFORE DELETE OR TRUNCATE ON invoice_counter
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Accruals are of orders or jobs, each at most once, and name the invoice that bills them.
ALTER TABLE accrual DROP CONSTRAINT accrual_pkey;
ALTER TABLE accrual ALTER COLUMN order_id DROP NOT NULL;
ALTER TABLE accrual ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY;
ALTER TABLE accrual ADD COLUMN invoice_id uuid REFERENCES invoice (id);
ALTER TABLE accrual ADD CONSTRAINT accrual_of_one CHECK ((order_id IS NULL) <> (job_id IS NULL));
ALTER TABLE accrual ADD CONSTRAINT accrual_reversed_or_billable CHECK (reversed_at IS NULL OR billable_at IS NULL);
ALTER TABLE accrual ADD CONSTRAINT accrual_billed_when_billable CHECK (invoice_id IS NULL OR billable_at IS NOT NULL);
CREATE UNIQUE INDEX accrual_of_order ON accrual (order_id) WHERE order_id IS NOT NULL;
CREATE UNIQUE INDEX accrual_of_job ON accrual (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX accrual_unbilled ON accrual (organization_id, billable_at) WHERE invoice_id IS NULL AND reversed_at IS NULL;
CREATE INDEX accrual_by_invoice ON accrual (invoice_id) WHERE invoice_id IS NOT NULL;

CREATE FUNCTION accrual_opens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.invoice_id IS NOT NULL THEN
        RAISE EXCEPTION 'an accrual begins unbilled' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION accrual_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moving text[] := ARRAY['credits', 'billable_at', 'reversed_at', 'invoice_id'];
    billing record;
BEGIN
    IF (to_jsonb(NEW) - moving) IS DISTINCT FROM (to_jsonb(OLD) - moving)
       OR NEW.credits > OLD.credits
       OR (OLD.billable_at IS NOT NULL AND NEW.billable_at IS DISTINCT FROM OLD.billable_at)
       OR (OLD.reversed_at IS NOT NULL AND NEW.reversed_at IS DISTINCT FROM OLD.reversed_at)
       OR (OLD.invoice_id IS NOT NULL AND NEW.credits <> OLD.credits) THEN
        RAISE EXCEPTION 'what is owed is only ever lowered, until it is billed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.invoice_id IS DISTINCT FROM OLD.invoice_id THEN
        SELECT organization_id, status INTO billing FROM invoice WHERE id = coalesce(NEW.invoice_id, OLD.invoice_id);
        IF (OLD.invoice_id IS NOT NULL AND (NEW.invoice_id IS NOT NULL OR billing.status <> 'void'))
           OR (NEW.invoice_id IS NOT NULL AND (billing.status = 'void' OR billing.organization_id <> NEW.organization_id)) THEN
            RAISE EXCEPTION 'what is owed is billed once' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER accrual_opens BEFORE INSERT ON accrual FOR EACH ROW EXECUTE FUNCTION accrual_opens();
CREATE TRIGGER accrual_keeps BEFORE UPDATE ON accrual FOR EACH ROW EXECUTE FUNCTION accrual_keeps();
CREATE TRIGGER accrual_stays BEFORE DELETE OR TRUNCATE ON accrual FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- An area promised over a term, at a rate.
CREATE TABLE commitment (
    id                 uuid           NOT NULL PRIMARY KEY,
    organization_id    uuid           NOT NULL REFERENCES organization (id),
    sqkm_amount        numeric(16, 4) NOT NULL CHECK (sqkm_amount > 0),
    rate_credits       bigint         NOT NULL CHECK (rate_credits >= 0),   -- per km2
    products           text[]         NOT NULL DEFAULT '{}',                -- none: all
    start_date         date           NOT NULL,
    end_date           date           NOT NULL,                             -- the last day of the term, UTC
    alerted_percent    integer        NOT NULL DEFAULT 0,
    settled_invoice_id uuid           REFERENCES invoice (id),              -- has billed the shortfall
    created_at         timestamptz    NOT NULL,
    updated_at         timestamptz    NOT NULL,
    deleted_at         timestamptz,
    CHECK (start_date <= end_date)
);
CREATE INDEX commitment_by_organization ON commitment (organization_id, start_date) WHERE deleted_at IS NULL;

CREATE TABLE commitment_adjustment (
    id              uuid           NOT NULL PRIMARY KEY,
    commitment_id   uuid           NOT NULL REFERENCES commitment (id),
    organization_id uuid           NOT NULL,
    size_sqkm       numeric(16, 4) NOT NULL CHECK (size_sqkm <> 0),
    note            text           NOT NULL,
    at              timestamptz    NOT NULL,
    principal_id    uuid,
    invocation_id   uuid           NOT NULL
);
CREATE INDEX commitment_adjustment_by_commitment ON commitment_adjustment (commitment_id, at);

CREATE FUNCTION commitment_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.organization_id, NEW.created_at) IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.created_at)
       OR (OLD.deleted_at IS NOT NULL AND NEW IS DISTINCT FROM OLD)
       OR (NEW.settled_invoice_id IS NULL AND OLD.settled_invoice_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM invoice WHERE id = OLD.settled_invoice_id AND status = 'void'))
       OR (NEW.settled_invoice_id IS NOT NULL AND OLD.settled_invoice_id IS NOT NULL
           AND (to_jsonb(NEW) - 'alerted_percent') IS DISTINCT FROM (to_jsonb(OLD) - 'alerted_percent')) THEN
        RAISE EXCEPTION 'a commitment that was billed stays as it is' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER commitment_keeps BEFORE UPDATE ON commitment FOR EACH ROW EXECUTE FUNCTION commitment_keeps();
CREATE TRIGGER commitment_stays BEFORE DELETE OR TRUNCATE ON commitment FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER commitment_adjustment_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON commitment_adjustment
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
