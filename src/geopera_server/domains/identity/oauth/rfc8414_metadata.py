"""RFC 8414, and OpenID Connect discovery in the same document: where everything is and what it can do."""

from __future__ import annotations

from typing import Any

from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.oauth import (
    rfc6749_client_credentials,
    rfc6749_code,
    rfc6749_password,
    rfc6749_refresh,
    rfc8628_device,
)
from geopera_server.domains.identity.oauth.rfc7591_registration import AUTH_METHODS

PROTOCOL_PATH = "/protocol/openid-connect"
REGISTRATION_PATH = "/clients-registrations/openid-connect"


def metadata(issuer: str, *, algorithm: str) -> dict[str, Any]:
    """Returns the description of the realm under an issuer address."""
    protocol = issuer + PROTOCOL_PATH
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{protocol}/auth",
        "token_endpoint": f"{protocol}/token",
        "device_authorization_endpoint": f"{protocol}/auth/device",
        "userinfo_endpoint": f"{protocol}/userinfo",
        "introspection_endpoint": f"{protocol}/token/introspect",
        "revocation_endpoint": f"{protocol}/revoke",
        "end_session_endpoint": f"{protocol}/logout",
        "jwks_uri": f"{protocol}/certs",
        "registration_endpoint": f"{issuer}{REGISTRATION_PATH}",
        "scopes_supported": ["openid", "profile", "email", *sorted(scopes.CUSTOMER)],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [
            rfc6749_code.GRANT_TYPE,
            rfc6749_refresh.GRANT_TYPE,
            rfc6749_client_credentials.GRANT_TYPE,
            rfc6749_password.GRANT_TYPE,
            rfc8628_device.GRANT_TYPE,
        ],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "authorization_response_iss_parameter_supported": True,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [algorithm],
        "claims_supported": [
            "sub", "name", "email", "scope", "geopera_principal_type", "geopera_principal_id", "geopera_org_id",
        ],
    }  # fmt: skip
