-- Spending caps. What a spend takes is counted where the ledger moves, so that nobody who posts can forget a budget
-- and no two spends can pass it together: whoever moves an organization's credits holds its account row.
-- A spend is an order or a job. All that it takes and gives back counts in the period that it began in, for the budgets
-- that bound it then.

CREATE TABLE budget (
    id               uuid        NOT NULL PRIMARY KEY,
    organization_id  uuid        NOT NULL REFERENCES organization (id),
    subject_type     text        NOT NULL CHECK (subject_type IN ('organization', 'project', 'api_key', 'user')),
    subject_id       uuid        NOT NULL,   -- of an organization's own budget: the organization
    period           text        NOT NULL CHECK (period IN ('day', 'month', 'total')),   -- by the calendar in UTC
    limit_credits    bigint      NOT NULL CHECK (limit_credits >= 0),
    mode             text        NOT NULL CHECK (mode IN ('block', 'warn')),
    alert_thresholds numeric[]   NOT NULL CHECK (0 < ALL (alert_thresholds)),
    active           boolean     NOT NULL,   -- one that is not still counts, and stops nobody
    created_by       uuid,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    invocation_id    uuid        NOT NULL,   -- the call that wrote it last
    deleted_at       timestamptz,
    CHECK ((subject_type = 'organization') = (subject_id = organization_id))
);
CREATE UNIQUE INDEX budget_live ON budget (organization_id, subject_id, subject_type, period) WHERE deleted_at IS NULL;

CREATE TABLE budget_use (
    budget_id        uuid        NOT NULL REFERENCES budget (id),
    period_start     timestamptz NOT NULL,
    reserved_credits bigint      NOT NULL DEFAULT 0 CHECK (reserved_credits >= 0),
    spent_credits    bigint      NOT NULL DEFAULT 0 CHECK (spent_credits >= 0),
    PRIMARY KEY (budget_id, period_start)
);

-- What one spend counts for in one budget. More refunded than spent gives no room that was not taken.
CREATE TABLE budget_share (
    spend_id         uuid        NOT NULL,   -- an order or a job; a charge that names neither, by itself
    budget_id        uuid        NOT NULL REFERENCES budget (id),
    period_start     timestamptz NOT NULL,
    reserved_credits bigint      NOT NULL DEFAULT 0 CHECK (reserved_credits >= 0),
    spent_credits    bigint      NOT NULL DEFAULT 0,
    last_entry       bigint,                 -- number of the last ledger entry that moved it; none for what is accrued
    PRIMARY KEY (spend_id, budget_id)
);
CREATE INDEX budget_share_newest ON budget_share (budget_id, last_entry DESC) WHERE last_entry IS NOT NULL;
CREATE INDEX IF NOT EXISTS ledger_entry_by_job ON ledger_entry (job_id) WHERE job_id IS NOT NULL;

CREATE TABLE budget_alert (
    budget_id     uuid        NOT NULL REFERENCES budget (id),
    period_start  timestamptz NOT NULL,
    threshold     numeric     NOT NULL,
    invocation_id uuid,       -- the call that reached it
    at            timestamptz NOT NULL,
    PRIMARY KEY (budget_id, period_start, threshold)
);
CREATE INDEX budget_alert_by_invocation ON budget_alert (invocation_id);

CREATE FUNCTION budget_period_start(period text, at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN period = 'total' THEN timestamptz '1970-01-01 00:00:00+00'
                ELSE date_trunc(period, at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END
$$;

-- When the next period begins; a total has none.
CREATE FUNCTION budget_period_end(period text, at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN period <> 'total'
                THEN (date_trunc(period, at AT TIME ZONE 'UTC') + ('1 ' || period)::interval) AT TIME ZONE 'UTC' END
$$;

CREATE FUNCTION budget_binds(subject_type text, subject_id uuid, project uuid, api_key uuid, principal uuid) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE subject_type
        WHEN 'organization' THEN true
        WHEN 'project' THEN subject_id = project
        WHEN 'api_key' THEN subject_id = api_key
        ELSE subject_id = principal AND api_key IS NULL END
$$;

CREATE FUNCTION budget_is_missing(organization uuid, api_key uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM organization o WHERE o.id = organization AND o.settings @> '{"require_key_budget": true}') THEN
        RETURN false;
    END IF;
    RETURN NOT EXISTS (SELECT FROM budget b WHERE b.organization_id = organization AND b.subject_id = api_key
                          AND b.subject_type = 'api_key' AND b.active AND b.deleted_at IS NULL);
END $$;

CREATE FUNCTION refuse_key_without_budget(organization uuid, api_key uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF budget_is_missing(organization, api_key) THEN
        RAISE EXCEPTION 'this API key needs a budget' USING ERRCODE = 'GP002',
            DETAIL = jsonb_build_object('budget_id', NULL, 'limit', NULL, 'remaining', 0, 'subject_type', 'api_key');
    END IF;
END $$;

-- A spend begins to count for the budgets that bind it.
CREATE FUNCTION budgets_begin(organization uuid, spend uuid, at timestamptz, project uuid, api_key uuid, principal uuid)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO budget_share (spend_id, budget_id, period_start)
    SELECT spend, b.id, budget_period_start(b.period, at) FROM budget b
     WHERE b.organization_id = organization AND b.deleted_at IS NULL
       AND b.subject_id = ANY (ARRAY[organization, project, api_key, principal])
       AND budget_binds(b.subject_type, b.subject_id, project, api_key, principal)
    ON CONFLICT DO NOTHING;
    INSERT INTO budget_use (budget_id, period_start)
    SELECT s.budget_id, s.period_start FROM budget_share s WHERE s.spend_id = spend
    ON CONFLICT DO NOTHING;
END $$;

-- A spend takes more room or gives some back, in every budget that it counts for.
CREATE FUNCTION budgets_move(
    organization uuid, spend uuid, at timestamptz, more_reserved bigint, more_spent bigint, entry_number bigint, call uuid
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    full_one record;
    took     bigint;   -- the same in every budget
BEGIN
    WITH moved AS (
        UPDATE budget_share s
           SET reserved_credits = s.reserved_credits + more_reserved, spent_credits = s.spent_credits + more_spent,
               last_entry = coalesce(entry_number, s.last_entry)
          FROM budget b
         WHERE s.spend_id = spend AND b.id = s.budget_id AND b.organization_id = organization AND b.deleted_at IS NULL
        RETURNING s.budget_id, s.period_start, greatest(s.spent_credits, 0) - greatest(s.spent_credits - more_spent, 0) AS spent
    ), used AS (
        UPDATE budget_use u
           SET reserved_credits = u.reserved_credits + more_reserved, spent_credits = u.spent_credits + m.spent
          FROM moved m WHERE u.budget_id = m.budget_id AND u.period_start = m.period_start
        RETURNING more_reserved + m.spent AS taken
    )
    SELECT max(taken) INTO took FROM used;
    IF coalesce(took, 0) <= 0 THEN
        RETURN;
    END IF;
    SELECT b.*, b.limit_credits - u.reserved_credits - u.spent_credits AS room,
           CASE WHEN s.period_start = budget_period_start(b.period, at)
                THEN to_char(budget_period_end(b.period, at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS renews_on
      INTO full_one
      FROM budget_share s
      JOIN budget b ON b.id = s.budget_id AND b.organization_id = organization AND b.deleted_at IS NULL
      JOIN budget_use u ON u.budget_id = s.budget_id AND u.period_start = s.period_start
     WHERE s.spend_id = spend AND b.active AND b.mode = 'block' AND u.reserved_credits + u.spent_credits > b.limit_credits
     ORDER BY room, b.id LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'budget exceeded' USING ERRCODE = 'GP002', DETAIL = jsonb_build_object(
            'budget_id', full_one.id, 'limit', full_one.limit_credits,
            'remaining', greatest(full_one.room + took, 0),
            'needed', took, 'subject_type', full_one.subject_type, 'period', full_one.period,
            'renews_on', full_one.renews_on);
    END IF;
    INSERT INTO budget_alert (budget_id, period_start, threshold, invocation_id, at)
    SELECT b.id, u.period_start, threshold, call, budgets_move.at
      FROM budget_share s
      JOIN budget b ON b.id = s.budget_id AND b.organization_id = organization AND b.deleted_at IS NULL AND b.active
      JOIN budget_use u ON u.budget_id = s.budget_id AND u.period_start = s.period_start
     CROSS JOIN unnest(b.alert_thresholds) threshold
     WHERE s.spend_id = spend AND u.reserved_credits + u.spent_credits >= threshold * b.limit_credits
    ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION budgets_follow_entry(entry ledger_entry) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    spend  uuid;
    begins boolean;
BEGIN
    IF entry.hold_id IS NOT NULL THEN
        SELECT coalesce(h.order_id, h.job_id), entry.reason = 'reserve' AND h.reserved = 0 INTO spend, begins
          FROM ledger_hold h WHERE h.id = entry.hold_id AND h.organization_id = entry.organization_id;
    ELSE
        -- A charge that follows a spend is of whom the spend was; one that stands alone is of whoever made it.
        spend := coalesce(entry.order_id, entry.job_id, entry.id);
        begins := entry.reason = 'charge_adjustment'
            AND NOT EXISTS (SELECT FROM ledger_hold h WHERE h.organization_id = entry.organization_id
                               AND (h.order_id = entry.order_id OR h.job_id = entry.job_id))
            AND NOT EXISTS (SELECT FROM accrual a WHERE a.organization_id = entry.organization_id
                               AND (a.order_id = entry.order_id OR a.job_id = entry.job_id))
            AND NOT EXISTS (SELECT FROM ledger_entry e WHERE e.organization_id = entry.organization_id
                               AND e.reason = 'charge_adjustment' AND (e.order_id = entry.order_id OR e.job_id = entry.job_id));
    END IF;
    IF begins THEN
        PERFORM budgets_begin(entry.organization_id, spend, entry.created_at, entry.project_id, entry.api_key_id, entry.principal_id);
    END IF;
    PERFORM budgets_move(entry.organization_id, spend, entry.created_at, entry.reserved_delta,
        CASE entry.reason WHEN 'settle' THEN -entry.reserved_delta WHEN 'charge_adjustment' THEN -entry.credits
                          WHEN 'refund' THEN -entry.credits ELSE 0 END,
        entry.number, entry.invocation_id);
END $$;

-- As before, and between the account and its cover come the budgets: a spend that one refuses is not paid for by card first.
CREATE OR REPLACE FUNCTION ledger_entry_moves_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger_account
       SET balance = balance + NEW.credits, reserved = reserved + NEW.reserved_delta, entry_count = entry_count + 1
     WHERE organization_id = NEW.organization_id
    RETURNING entry_count, balance, reserved INTO NEW.number, NEW.balance_after, NEW.reserved_after;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'organization % has no ledger account', NEW.organization_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    IF NEW.reason = 'reserve' AND NEW.api_key_id IS NOT NULL THEN
        PERFORM refuse_key_without_budget(NEW.organization_id, NEW.api_key_id);
    END IF;
    IF NEW.reason IN ('reserve', 'release', 'settle', 'refund', 'charge_adjustment')
       AND EXISTS (SELECT FROM budget b WHERE b.organization_id = NEW.organization_id AND b.deleted_at IS NULL) THEN
        PERFORM budgets_follow_entry(NEW);
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

-- What is owed counts as reserved until it is billable, then as spent, and no more once it is taken back.
CREATE FUNCTION accrual_moves_budgets() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    spend    uuid := coalesce(NEW.order_id, NEW.job_id);
    reserved bigint := CASE WHEN NEW.reversed_at IS NULL AND NEW.billable_at IS NULL THEN NEW.credits ELSE 0 END;
    spent    bigint := CASE WHEN NEW.reversed_at IS NULL AND NEW.billable_at IS NOT NULL THEN NEW.credits ELSE 0 END;
BEGIN
    -- Accruals share the account until there are budgets: only who makes a budget has to wait for them.
    PERFORM FROM ledger_account WHERE organization_id = NEW.organization_id FOR KEY SHARE;
    IF TG_OP = 'INSERT' AND NEW.api_key_id IS NOT NULL AND NEW.credits > 0 THEN
        PERFORM refuse_key_without_budget(NEW.organization_id, NEW.api_key_id);
    END IF;
    IF NOT EXISTS (SELECT FROM budget b WHERE b.organization_id = NEW.organization_id AND b.deleted_at IS NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM FROM ledger_account WHERE organization_id = NEW.organization_id FOR NO KEY UPDATE;
    IF TG_OP = 'INSERT' THEN
        PERFORM budgets_begin(NEW.organization_id, spend, NEW.created_at, NEW.project_id, NEW.api_key_id, NEW.principal_id);
    ELSE
        reserved := reserved - CASE WHEN OLD.reversed_at IS NULL AND OLD.billable_at IS NULL THEN OLD.credits ELSE 0 END;
        spent := spent - CASE WHEN OLD.reversed_at IS NULL AND OLD.billable_at IS NOT NULL THEN OLD.credits ELSE 0 END;
    END IF;
    PERFORM budgets_move(NEW.organization_id, spend, NEW.created_at, reserved, spent, NULL, NEW.invocation_id);
    RETURN NULL;
END $$;
CREATE TRIGGER accrual_moves_budgets AFTER INSERT OR UPDATE OF credits, billable_at, reversed_at ON accrual
    FOR EACH ROW EXECUTE FUNCTION accrual_moves_budgets();

-- A new budget counts from the start of the running period, as if it had always been there.
CREATE FUNCTION budget_opens() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    running timestamptz := budget_period_start(NEW.period, NEW.created_at);
BEGIN
    PERFORM FROM ledger_account WHERE organization_id = NEW.organization_id FOR UPDATE;
    WITH entry AS (
        SELECT coalesce(h.order_id, h.job_id, e.order_id, e.job_id, e.id) AS spend_id, e.number, e.reason, e.reserved_delta,
               CASE e.reason WHEN 'settle' THEN -e.reserved_delta WHEN 'charge_adjustment' THEN -e.credits
                             WHEN 'refund' THEN -e.credits ELSE 0 END AS spent
          FROM ledger_entry e LEFT JOIN ledger_hold h ON h.id = e.hold_id
         WHERE e.organization_id = NEW.organization_id
           AND e.reason IN ('reserve', 'release', 'settle', 'refund', 'charge_adjustment')
    ), posted AS (
        SELECT spend_id, sum(reserved_delta) AS reserved, sum(spent) AS spent, max(number) AS last_entry,
               min(number) FILTER (WHERE reason = 'reserve') AS first_reserve,
               min(number) FILTER (WHERE reason = 'charge_adjustment') AS first_charge
          FROM entry GROUP BY spend_id
    ), owed AS (
        SELECT coalesce(order_id, job_id) AS spend_id, created_at, project_id, api_key_id, principal_id,
               CASE WHEN reversed_at IS NULL AND billable_at IS NULL THEN credits ELSE 0 END AS reserved,
               CASE WHEN reversed_at IS NULL AND billable_at IS NOT NULL THEN credits ELSE 0 END AS spent
          FROM accrual WHERE organization_id = NEW.organization_id
    ), spend AS (
        SELECT coalesce(p.spend_id, o.spend_id) AS spend_id, coalesce(e.created_at, o.created_at) AS began_at, p.last_entry,
               coalesce(p.reserved, 0) + coalesce(o.reserved, 0) AS reserved, coalesce(p.spent, 0) + coalesce(o.spent, 0) AS spent,
               CASE WHEN e.id IS NULL THEN o.project_id ELSE e.project_id END AS project,
               CASE WHEN e.id IS NULL THEN o.api_key_id ELSE e.api_key_id END AS api_key,
               CASE WHEN e.id IS NULL THEN o.principal_id ELSE e.principal_id END AS principal
          FROM posted p FULL JOIN owed o ON o.spend_id = p.spend_id
          LEFT JOIN ledger_entry e ON e.organization_id = NEW.organization_id
               AND e.number = coalesce(p.first_reserve, CASE WHEN o.spend_id IS NULL THEN p.first_charge END)
    )
    INSERT INTO budget_share (spend_id, budget_id, period_start, reserved_credits, spent_credits, last_entry)
    SELECT spend_id, NEW.id, budget_period_start(NEW.period, began_at), reserved, spent, last_entry
      FROM spend
     WHERE budget_period_start(NEW.period, began_at) >= running
       AND budget_binds(NEW.subject_type, NEW.subject_id, project, api_key, principal);
    INSERT INTO budget_use (budget_id, period_start, reserved_credits, spent_credits)
    SELECT NEW.id, s.period_start, sum(s.reserved_credits), sum(greatest(s.spent_credits, 0))
      FROM budget_share s WHERE s.budget_id = NEW.id GROUP BY s.period_start;
    RETURN NULL;
END $$;

-- Whom a budget caps, and over which period, stays; a limit changes between spends and not during one.
CREATE FUNCTION budget_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.organization_id, NEW.subject_type, NEW.subject_id, NEW.period, NEW.created_at)
       IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.subject_type, OLD.subject_id, OLD.period, OLD.created_at)
       OR OLD.deleted_at IS NOT NULL THEN
        RAISE EXCEPTION 'a budget stays of whom and over what it is' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    PERFORM FROM ledger_account WHERE organization_id = NEW.organization_id FOR NO KEY UPDATE;
    RETURN NEW;
END $$;

-- A threshold is told once a period; one that a changed limit has moved out of reach again can be reached again.
CREATE FUNCTION budget_tells() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    running timestamptz := budget_period_start(NEW.period, NEW.updated_at);
    used    bigint := coalesce((SELECT u.reserved_credits + u.spent_credits FROM budget_use u
                                 WHERE u.budget_id = NEW.id AND u.period_start = running), 0);
BEGIN
    IF NEW.deleted_at IS NULL THEN
        DELETE FROM budget_alert a
         WHERE a.budget_id = NEW.id AND a.period_start = running AND used < a.threshold * NEW.limit_credits;
        IF NEW.active AND used > 0 THEN
            INSERT INTO budget_alert (budget_id, period_start, threshold, invocation_id, at)
            SELECT NEW.id, running, threshold, NEW.invocation_id, NEW.updated_at FROM unnest(NEW.alert_thresholds) threshold
             WHERE used >= threshold * NEW.limit_credits
            ON CONFLICT DO NOTHING;
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- In the order of their names: what a new budget has used is known before it is told.
CREATE TRIGGER budget_opens AFTER INSERT ON budget FOR EACH ROW EXECUTE FUNCTION budget_opens();
CREATE TRIGGER budget_tells AFTER INSERT OR UPDATE ON budget FOR EACH ROW EXECUTE FUNCTION budget_tells();
CREATE TRIGGER budget_keeps BEFORE UPDATE ON budget FOR EACH ROW EXECUTE FUNCTION budget_keeps();
CREATE TRIGGER budget_stays BEFORE DELETE OR TRUNCATE ON budget FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER budget_use_guarded BEFORE INSERT OR UPDATE ON budget_use FOR EACH ROW EXECUTE FUNCTION refuse_direct_figures();
CREATE TRIGGER budget_use_stays BEFORE DELETE OR TRUNCATE ON budget_use FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER budget_share_guarded BEFORE INSERT OR UPDATE ON budget_share
    FOR EACH ROW EXECUTE FUNCTION refuse_direct_figures();
CREATE TRIGGER budget_share_stays BEFORE DELETE OR TRUNCATE ON budget_share
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
