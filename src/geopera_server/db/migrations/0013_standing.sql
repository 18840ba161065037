-- Where an organization stands, which plan it was on when, what each month cost it, and what runs by the clock.

ALTER TABLE organization
    ADD COLUMN past_due_since        timestamptz,
    ADD COLUMN suspended_at          timestamptz,
    ADD COLUMN suspended_reason      text,
    ADD COLUMN suspended_for_debt    boolean NOT NULL DEFAULT false,   -- ends by itself when the debt is paid
    ADD COLUMN deletion_requested_at timestamptz,
    ADD COLUMN deletion_due_at       timestamptz,
    ADD COLUMN deletion_requested_by uuid,
    ADD COLUMN deletion_reason       text,
    ADD COLUMN purge_started_at      timestamptz,
    ADD COLUMN purged_at             timestamptz;
CREATE INDEX organization_to_delete ON organization (deletion_due_at) WHERE deletion_due_at IS NOT NULL;

UPDATE organization SET past_due_since = now() WHERE standing = 'past_due';
UPDATE organization SET suspended_at = now() WHERE standing = 'suspended';
UPDATE organization SET deletion_requested_at = now(), deletion_due_at = now() + interval '30 days'
 WHERE standing = 'pending_deletion';

-- The standing is one word for several facts, and the facts outlive one another: whoever is unsuspended may still owe.
-- Writing a fact gives the word; writing the word sets the fact.
CREATE FUNCTION organization_stands() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.past_due_since, NEW.suspended_at, NEW.deletion_due_at)
       IS NOT DISTINCT FROM (OLD.past_due_since, OLD.suspended_at, OLD.deletion_due_at) THEN
        IF NEW.standing = OLD.standing THEN RETURN NEW; END IF;
        CASE NEW.standing
            WHEN 'active' THEN
                NEW.past_due_since := NULL; NEW.suspended_at := NULL; NEW.deletion_due_at := NULL;
            WHEN 'past_due' THEN
                NEW.past_due_since := coalesce(OLD.past_due_since, now()); NEW.suspended_at := NULL; NEW.deletion_due_at := NULL;
            WHEN 'suspended' THEN
                NEW.suspended_at := coalesce(OLD.suspended_at, now());
            ELSE
                NEW.deletion_due_at := coalesce(OLD.deletion_due_at, now() + interval '30 days');
                NEW.deletion_requested_at := coalesce(OLD.deletion_requested_at, now());
        END CASE;
    END IF;
    IF NEW.suspended_at IS NULL THEN
        NEW.suspended_reason := NULL; NEW.suspended_for_debt := false;
    END IF;
    IF NEW.deletion_due_at IS NULL THEN
        NEW.deletion_requested_at := NULL; NEW.deletion_requested_by := NULL; NEW.deletion_reason := NULL;
    END IF;
    NEW.standing := CASE WHEN NEW.suspended_at IS NOT NULL THEN 'suspended'
                         WHEN NEW.deletion_due_at IS NOT NULL THEN 'pending_deletion'
                         WHEN NEW.past_due_since IS NOT NULL THEN 'past_due'
                         ELSE 'active' END;
    RETURN NEW;
END $$;
CREATE TRIGGER organization_stands BEFORE UPDATE ON organization FOR EACH ROW EXECUTE FUNCTION organization_stands();

-- What a call is admitted with grows old with the standing and with the plan, whichever column brought it about.
DROP TRIGGER organization_standing_changes ON organization;
CREATE TRIGGER organization_changes AFTER UPDATE ON organization FOR EACH ROW
    WHEN ((OLD.standing, OLD.plan_id) IS DISTINCT FROM (NEW.standing, NEW.plan_id))
    EXECUTE FUNCTION begin_credential_epoch();
CREATE TRIGGER plan_changes AFTER UPDATE OF limits ON plan FOR EACH ROW EXECUTE FUNCTION begin_credential_epoch();

CREATE TABLE plan_change (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    plan_id         text        NOT NULL,
    at              timestamptz NOT NULL
);
CREATE INDEX plan_change_by_organization ON plan_change (organization_id, at);
-- Months before this table are not charged for: nobody kept which plan they were on.
INSERT INTO plan_change (organization_id, plan_id, at) SELECT id, plan_id, now() FROM organization ORDER BY created_at, id;
CREATE TRIGGER plan_change_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON plan_change
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION note_plan_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO plan_change (organization_id, plan_id, at)
    VALUES (NEW.id, NEW.plan_id, CASE TG_OP WHEN 'INSERT' THEN NEW.created_at ELSE greatest(NEW.updated_at, OLD.updated_at) END);
    RETURN NULL;
END $$;
CREATE TRIGGER organization_begins_plan AFTER INSERT ON organization FOR EACH ROW EXECUTE FUNCTION note_plan_change();
CREATE TRIGGER organization_changes_plan AFTER UPDATE ON organization FOR EACH ROW
    WHEN (OLD.plan_id IS DISTINCT FROM NEW.plan_id) EXECUTE FUNCTION note_plan_change();

-- One month of one organization: what it came to is reckoned once and stays; only whether it is paid changes.
CREATE TABLE billing_run (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    period          text        NOT NULL CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    status          text        NOT NULL CHECK (status IN ('computed', 'billed', 'nothing_due', 'past_due')),
    lines           jsonb       NOT NULL,   -- [{kind, quantity, unit, credits}]
    total_credits   bigint      NOT NULL CHECK (total_credits >= 0),
    charged_credits bigint      NOT NULL DEFAULT 0 CHECK (charged_credits >= 0),
    topup_id        uuid        REFERENCES topup (id),
    invoice_id      uuid,
    refusal_code    text,
    refused_in      uuid,                   -- the call that was refused last
    attempted_at    timestamptz,            -- when a card was last asked in vain
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    UNIQUE (organization_id, period)
);
CREATE INDEX billing_run_open ON billing_run (organization_id, period) WHERE status IN ('computed', 'past_due');

CREATE FUNCTION billing_run_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('billed', 'nothing_due')
       OR (NEW.organization_id, NEW.period, NEW.lines, NEW.total_credits)
          IS DISTINCT FROM (OLD.organization_id, OLD.period, OLD.lines, OLD.total_credits) THEN
        RAISE EXCEPTION 'what a month came to stays' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_run_keeps BEFORE UPDATE ON billing_run FOR EACH ROW EXECUTE FUNCTION billing_run_keeps();
CREATE TRIGGER billing_run_stays BEFORE DELETE OR TRUNCATE ON billing_run
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What runs by the clock, once for each time it is due, whichever process comes first.
CREATE TABLE cron_run (
    name        text        NOT NULL,
    due_at      timestamptz NOT NULL,
    tries       integer     NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL,
    done_at     timestamptz,
    outcome     text,
    PRIMARY KEY (name, due_at)
);

-- As before, and with the calls per minute that the organization's plan allows.
DROP FUNCTION admit(bytea, uuid, uuid, text, timestamptz);
CREATE FUNCTION admit(p_key_hash bytea, p_session_id uuid, p_requested_organization uuid, p_rate_class text, p_at timestamptz)
RETURNS TABLE (
    principal_type text, principal_id uuid, organization_id uuid, organization_role text, permissions text[],
    session_scopes text[], operator boolean, standing text, key_rate_limit integer, key_expires_at timestamptz,
    credential_epoch bigint, used_by_organization integer, used_by_key integer, plan_rate_limit integer
) LANGUAGE plpgsql AS $$
DECLARE
    v_window   timestamptz := date_trunc('minute', p_at);
    v_idle     timestamptz := p_at - interval '1 minute';
    v_user     uuid;
    v_key      uuid;
    v_used_at  timestamptz;
BEGIN
    SELECT e.epoch INTO credential_epoch FROM credential_epoch e;   -- before all that it vouches for
    IF p_session_id IS NOT NULL THEN
        SELECT s.user_id, s.api_key_id, s.organization_id, s.scopes, s.last_used_at
          INTO v_user, v_key, organization_id, session_scopes, v_used_at
          FROM auth_session s WHERE s.id = p_session_id AND s.ended_at IS NULL;
        IF NOT FOUND THEN RETURN; END IF;
        -- Once a minute is enough to know, and a writer at work is not waited for.
        IF v_used_at < v_idle THEN
            UPDATE auth_session SET last_used_at = p_at WHERE id =
                (SELECT s.id FROM auth_session s WHERE s.id = p_session_id FOR NO KEY UPDATE SKIP LOCKED);
        END IF;
    ELSE
        SELECT k.id INTO v_key FROM api_key k WHERE k.secret_hash = p_key_hash;
        IF NOT FOUND THEN RETURN; END IF;
    END IF;

    IF v_user IS NOT NULL THEN
        SELECT 'user', u.id, u.operator INTO principal_type, principal_id, operator
          FROM app_user u WHERE u.id = v_user AND u.status = 'active';
        IF NOT FOUND THEN RETURN; END IF;
        -- Whoever had no organization when signing in acts in the first one joined since.
        SELECT o.id, m.role, o.standing, (p.limits ->> 'requests_per_minute')::integer
          INTO organization_id, organization_role, standing, plan_rate_limit
          FROM membership m JOIN organization o ON o.id = m.organization_id LEFT JOIN plan p ON p.id = o.plan_id
         WHERE m.user_id = v_user
           AND m.organization_id = coalesce(p_requested_organization, admit.organization_id, m.organization_id)
         ORDER BY m.created_at, m.organization_id LIMIT 1;
    ELSE
        SELECT 'api_key', k.id, k.organization_id, k.permissions, k.rate_limit, k.expires_at, k.last_used_at, o.standing, false,
               (p.limits ->> 'requests_per_minute')::integer
          INTO principal_type, principal_id, organization_id, permissions, key_rate_limit, key_expires_at, v_used_at, standing,
               operator, plan_rate_limit
          FROM api_key k JOIN organization o ON o.id = k.organization_id LEFT JOIN plan p ON p.id = o.plan_id
         WHERE k.id = v_key AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > p_at);
        IF NOT FOUND THEN RETURN; END IF;
        IF v_used_at IS NULL OR v_used_at < v_idle THEN
            UPDATE api_key SET last_used_at = p_at WHERE id =
                (SELECT k.id FROM api_key k WHERE k.id = v_key FOR NO KEY UPDATE SKIP LOCKED);
        END IF;
    END IF;

    IF p_rate_class IS NOT NULL THEN
        INSERT INTO rate_window AS w VALUES (p_rate_class || ':' || coalesce(organization_id, principal_id), v_window, 1)
            ON CONFLICT (bucket, window_start) DO UPDATE SET used = w.used + 1 RETURNING w.used INTO used_by_organization;
        IF key_rate_limit IS NOT NULL THEN
            INSERT INTO rate_window AS w VALUES ('key:' || principal_id, v_window, 1)
                ON CONFLICT (bucket, window_start) DO UPDATE SET used = w.used + 1 RETURNING w.used INTO used_by_key;
        END IF;
    END IF;
    RETURN NEXT;
END $$;
