-- Who may act, for which organization, and on which projects.

CREATE TABLE organization (
    id                 uuid        NOT NULL PRIMARY KEY,
    name               text        NOT NULL,
    slug               text        NOT NULL UNIQUE,
    description        text,
    website            text,
    industry           text,
    size               text,
    country            text,
    abn                text,
    tax_number         text,
    billing_email      text,
    billing_address    jsonb,
    billing_mode       text        NOT NULL DEFAULT 'prepaid' CHECK (billing_mode IN ('prepaid', 'enterprise')),
    enterprise_requested boolean   NOT NULL DEFAULT false,
    plan_id            text        NOT NULL DEFAULT 'free',
    free_tier          text        NOT NULL DEFAULT 'pending' CHECK (free_tier IN ('none', 'pending', 'approved', 'revoked')),
    standing           text        NOT NULL DEFAULT 'active'
                       CHECK (standing IN ('active', 'past_due', 'suspended', 'pending_deletion')),
    settings           jsonb       NOT NULL DEFAULT '{}',
    created_by         uuid,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL
);
CREATE UNIQUE INDEX organization_name_per_creator ON organization (created_by, lower(name));

CREATE TABLE app_user (
    id              uuid        NOT NULL PRIMARY KEY,
    email           text        NOT NULL,
    username        text        NOT NULL,
    display_name    text,
    password_hash   text,                -- null: no password yet, so nobody can sign in with one
    status          text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    operator        boolean     NOT NULL DEFAULT false,
    locale          text        NOT NULL DEFAULT 'en',
    timezone        text        NOT NULL DEFAULT 'UTC',
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE UNIQUE INDEX app_user_email ON app_user (lower(email));
CREATE UNIQUE INDEX app_user_username ON app_user (lower(username));

-- Wrong passwords in a row, for names that nobody has too: an attacker must not learn which accounts exist.
CREATE TABLE signin_failure (
    subject      bytea       NOT NULL PRIMARY KEY,   -- keyed digest of the account or of the name that was tried
    failures     integer     NOT NULL,
    last_at      timestamptz NOT NULL,
    locked_until timestamptz
);

CREATE TABLE membership (
    organization_id uuid        NOT NULL REFERENCES organization (id),
    user_id         uuid        NOT NULL REFERENCES app_user (id),
    role            text        NOT NULL CHECK (role IN ('owner', 'admin', 'billing', 'member', 'viewer')),
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX membership_by_user ON membership (user_id, created_at);

CREATE TABLE project (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    name            text        NOT NULL,
    description     text,
    region          text        NOT NULL,
    storage_prefix  text        NOT NULL,
    is_archived     boolean     NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    deleted_at      timestamptz
);
CREATE UNIQUE INDEX project_name ON project (organization_id, lower(name)) WHERE deleted_at IS NULL;

CREATE TABLE project_member (
    project_id uuid        NOT NULL REFERENCES project (id),
    user_id    uuid        NOT NULL REFERENCES app_user (id),
    role       text        NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
    added_by   uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE UNIQUE INDEX project_has_one_owner ON project_member (project_id) WHERE role = 'owner';

CREATE TABLE api_key (
    id              uuid        NOT NULL PRIMARY KEY,
    organization_id uuid        NOT NULL REFERENCES organization (id),
    name            text        NOT NULL,
    prefix          text        NOT NULL,
    secret_hash     bytea       NOT NULL UNIQUE,
    permissions     text[]      NOT NULL,
    rate_limit      integer,
    created_by      uuid,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz
);
CREATE INDEX api_key_by_organization ON api_key (organization_id, created_at DESC);

-- One row per sign-in or key exchange; access tokens name it, so ending the row ends them all.
CREATE TABLE auth_session (
    id              uuid        NOT NULL PRIMARY KEY,
    user_id         uuid        REFERENCES app_user (id),
    api_key_id      uuid        REFERENCES api_key (id),
    organization_id uuid        REFERENCES organization (id),
    client_id       text        NOT NULL,
    scopes          text[],              -- null: all that the principal holds at the time of a call
    resource        text,
    ip              text,
    user_agent      text,
    created_at      timestamptz NOT NULL,
    last_used_at    timestamptz NOT NULL,
    ended_at        timestamptz,
    ended_reason    text,
    CHECK ((user_id IS NULL) <> (api_key_id IS NULL))
);
CREATE INDEX auth_session_by_user ON auth_session (user_id, created_at DESC);
CREATE INDEX auth_session_by_key ON auth_session (api_key_id) WHERE api_key_id IS NOT NULL;

-- A successor is computed from its parent, so only digests are kept and a repeat within the grace gets the same one again.
CREATE TABLE refresh_token (
    token_hash  bytea       NOT NULL PRIMARY KEY,
    session_id  uuid        NOT NULL REFERENCES auth_session (id) ON DELETE CASCADE,
    parent_hash bytea       UNIQUE,
    used_at     timestamptz,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX refresh_token_by_session ON refresh_token (session_id);

CREATE TABLE oauth_client (
    id            text        NOT NULL PRIMARY KEY,
    name          text        NOT NULL,
    secret_hash   bytea,               -- null: a public client
    redirect_uris text[]      NOT NULL DEFAULT '{}',
    grant_types   text[]      NOT NULL,
    dynamic       boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL,
    last_used_at  timestamptz
);

CREATE TABLE device_grant (
    device_code_hash bytea       NOT NULL PRIMARY KEY,
    user_code        text        NOT NULL UNIQUE,
    client_id        text        NOT NULL,
    scopes           text[],
    code_challenge   text,
    interval_s       integer     NOT NULL,
    last_polled_at   timestamptz,
    status           text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'denied', 'redeemed')),
    user_id          uuid        REFERENCES app_user (id),
    organization_id  uuid        REFERENCES organization (id),
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    CHECK (status NOT IN ('approved', 'redeemed') OR user_id IS NOT NULL)
);

CREATE TABLE authorization_code (
    code_hash       bytea       NOT NULL PRIMARY KEY,
    client_id       text        NOT NULL,
    redirect_uri    text        NOT NULL,
    code_challenge  text        NOT NULL,
    scopes          text[],
    resource        text,
    user_id         uuid        NOT NULL REFERENCES app_user (id),
    organization_id uuid        REFERENCES organization (id),
    session_id      uuid        REFERENCES auth_session (id) ON DELETE SET NULL,   -- what the code was exchanged for
    used_at         timestamptz,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL
);

INSERT INTO organization (id, name, slug, plan_id, free_tier, created_at, updated_at)
VALUES ('00000000-0000-7000-8000-000000000001', 'Platform', 'platform', 'enterprise', 'none', now(), now());

INSERT INTO oauth_client (id, name, grant_types, created_at) VALUES
    ('geopera', 'API keys and first-party scripts', '{client_credentials,password,refresh_token}', now()),
    ('geopera-cli', 'Command line', '{urn:ietf:params:oauth:grant-type:device_code,password,refresh_token}', now());

-- Names the caller and counts the call in one round trip.
-- Exactly one of p_key_hash and p_session_id is given; no row means that the credential is unknown, ended or expired.
-- A human who is not in the requested organization comes back without one. Without p_rate_class nothing is counted.
CREATE FUNCTION admit(p_key_hash bytea, p_session_id uuid, p_requested_organization uuid, p_rate_class text, p_at timestamptz)
RETURNS TABLE (
    principal_type text, principal_id uuid, organization_id uuid, organization_role text, permissions text[],
    session_scopes text[], operator boolean, standing text, key_rate_limit integer, key_expires_at timestamptz,
    credential_epoch bigint, used_by_organization integer, used_by_key integer
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
        SELECT o.id, m.role, o.standing INTO organization_id, organization_role, standing
          FROM membership m JOIN organization o ON o.id = m.organization_id
         WHERE m.user_id = v_user
           AND m.organization_id = coalesce(p_requested_organization, admit.organization_id, m.organization_id)
         ORDER BY m.created_at, m.organization_id LIMIT 1;
    ELSE
        SELECT 'api_key', k.id, k.organization_id, k.permissions, k.rate_limit, k.expires_at, k.last_used_at, o.standing, false
          INTO principal_type, principal_id, organization_id, permissions, key_rate_limit, key_expires_at, v_used_at, standing,
               operator
          FROM api_key k JOIN organization o ON o.id = k.organization_id
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

-- Grows with every change that may take a right away from somebody. A server that has looked a credential up may use what it
-- found for as long as this number stays, and reads the number with the statement that counts the call.
CREATE TABLE credential_epoch (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    bigint  NOT NULL
);
INSERT INTO credential_epoch VALUES (true, 1);

CREATE FUNCTION begin_credential_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE credential_epoch SET epoch = epoch + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER auth_session_ends AFTER UPDATE OF ended_at, scopes, organization_id ON auth_session
    FOR EACH ROW EXECUTE FUNCTION begin_credential_epoch();
CREATE TRIGGER api_key_changes AFTER UPDATE OF revoked_at, permissions, rate_limit, expires_at ON api_key
    FOR EACH ROW EXECUTE FUNCTION begin_credential_epoch();
CREATE TRIGGER membership_changes AFTER INSERT OR UPDATE OR DELETE ON membership
    FOR EACH ROW EXECUTE FUNCTION begin_credential_epoch();
CREATE TRIGGER app_user_changes AFTER UPDATE OF status, operator ON app_user
    FOR EACH ROW EXECUTE FUNCTION begin_credential_epoch();
CREATE TRIGGER organization_standing_changes AFTER UPDATE OF standing ON organization
    FOR EACH ROW EXECUTE FUNCTION begin_credential_epoch();
CREATE TRIGGER row_goes AFTER DELETE ON auth_session FOR EACH STATEMENT EXECUTE FUNCTION begin_credential_epoch();
