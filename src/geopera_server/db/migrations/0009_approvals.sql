-- Asking for a large purchase and deciding on it, and what binds a charge to the decision.

CREATE TABLE approval (
    id                uuid        NOT NULL PRIMARY KEY,
    organization_id   uuid        NOT NULL REFERENCES organization (id),
    credits           bigint      NOT NULL CHECK (credits > 0),
    status            text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'failed')),
    requested_by      uuid        NOT NULL,
    requested_by_type text        NOT NULL,
    created_at        timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL CHECK (expires_at > created_at),
    decided_by        uuid,
    decided_at        timestamptz,
    reason            text,
    topup_id          uuid        UNIQUE REFERENCES topup (id),
    CHECK ((status = 'approved') = (topup_id IS NOT NULL)),
    CHECK ((status IN ('approved', 'rejected', 'failed')) = (decided_at IS NOT NULL))
);
CREATE INDEX approval_newest ON approval (organization_id, created_at DESC, id DESC);
-- The same principal asks for the same amount once.
CREATE UNIQUE INDEX approval_asked_once ON approval (organization_id, requested_by, credits) WHERE status = 'pending';

-- Which calls have set out to approve: one that was refused because the card holder had to confirm comes again with its key,
-- and by then the confirmation may have approved the request without it.
CREATE TABLE approval_call (
    approval_id     uuid NOT NULL REFERENCES approval (id),
    principal_id    uuid NOT NULL,
    idempotency_key text NOT NULL,
    PRIMARY KEY (approval_id, principal_id, idempotency_key)
);

CREATE FUNCTION approval_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('approved', 'rejected', 'failed')
       OR (NEW.id, NEW.organization_id, NEW.credits, NEW.requested_by, NEW.requested_by_type, NEW.created_at)
       IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.credits, OLD.requested_by, OLD.requested_by_type, OLD.created_at) THEN
        RAISE EXCEPTION 'what was asked for and decided stays' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER approval_keeps BEFORE UPDATE ON approval FOR EACH ROW EXECUTE FUNCTION approval_keeps();
CREATE TRIGGER approval_stays BEFORE DELETE OR TRUNCATE ON approval FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A charge is begun in a transaction of its own, some time after somebody has approved. Whether that still holds is looked at
-- again here: whoever rejects meanwhile either comes before the charge, and there is none, or sees it.
CREATE FUNCTION topup_is_still_wanted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM approval a WHERE a.id = NEW.approval_id AND a.organization_id = NEW.organization_id
        AND a.credits = NEW.credits AND a.status = 'pending' FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'approval % is not pending any more', NEW.approval_id USING ERRCODE = 'GP003';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER topup_is_still_wanted BEFORE INSERT ON topup FOR EACH ROW WHEN (NEW.kind = 'approval')
    EXECUTE FUNCTION topup_is_still_wanted();
