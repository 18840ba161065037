"""Every setting of a deployment: an environment variable each, with its type, default and meaning."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

OPEN_DATA_HOSTS = ("*.amazonaws.com", "storage.googleapis.com", "*.blob.core.windows.net", "data.source.coop")


class SettingsRefused(Exception):
    """The settings contradict each other, or are not fit for production; the text says what to set."""


class Settings(BaseSettings):
    """Read from the environment with the prefix GEOPERA_."""

    model_config = SettingsConfigDict(env_prefix="GEOPERA_", extra="ignore")

    env: Literal["development", "production"] = Field(
        "development", description="production refuses generated secrets, demo data and test parts"
    )
    data_dir: Path = Field(Path("./geopera-data"), description="folder for the embedded database, objects and secrets")
    database_url: str | None = Field(None, description="PostgreSQL 15 or newer; without it an embedded one is started")
    database_wait_s: float = Field(30.0, ge=0, description="how long to wait at start for a database that is not there yet")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes any free one")
    public_url: str | None = Field(None, description="address under which clients reach this server")
    secret: SecretStr | None = Field(
        None, description="at least 32 characters; all keys are derived from it; generated in development"
    )
    token_algorithm: Literal["HS256", "ES256"] = Field("HS256", description="ES256 publishes its key at the JWKS address")
    storage_url: str | None = Field(None, description="s3://, gs://, az:// or file://; default a folder in the data folder")
    source_roots: list[Path] = Field(default_factory=list, description="folders that scenes may name files in")
    raster_hosts: list[str] = Field(
        default_factory=lambda: list(OPEN_DATA_HOSTS),
        description="hosts whose rasters callers may name by address, as JSON: names and *.domains (https only), or origins"
        " such as http://store.internal:9000, which may also lie on a private network",
    )
    tile_threads: int | None = Field(
        None, ge=1, le=256, description="pictures made at once by one process; by default one more than it has cores"
    )
    tile_cache_bytes: int = Field(128 * 1024 * 1024, ge=0, description="memory for tiles that were made last, by one process")
    background: bool = Field(True, description="whether this process also does background work")
    worker_slots: int = Field(2, ge=1, le=64, description="background jobs done at once by one process")
    lease_s: int = Field(60, ge=1, description="how long a worker may be silent before its job is given to another")
    job_attempts: int = Field(5, ge=1, description="how often a job is tried before it fails for good")
    pool_size: int = Field(20, ge=2, description="database connections of one process")
    max_body_bytes: int = Field(10 * 1024 * 1024, description="largest request body")
    rate_default: int | None = Field(
        None, ge=1, description="calls per minute and organization; by default what its plan allows, 600 where it says nothing"
    )
    rate_placement: int = Field(60, ge=1, description="orders placed per minute and organization")
    rate_spend: int = Field(30, ge=1, description="other spending calls per minute and organization")
    rate_public: int = Field(60, ge=1, description="calls without credential per minute and address")
    rate_tiles: int = Field(6_000, ge=1, description="tiles per minute and organization")
    rate_public_tiles: int = Field(1_200, ge=1, description="tiles without credential per minute and address")
    host_timeout_s: float = Field(20.0, gt=0, description="longest wait for an imagery host")
    host_auth: dict[str, SecretStr] = Field(
        default_factory=dict, description="Authorization header of imagery hosts, by the auth_ref that sources name, as JSON"
    )
    payments: Literal["none", "test", "stripe"] | None = Field(
        None,
        description="card processor; test moves no money and is not for production; by default test, in production none",
    )
    stripe_secret_key: SecretStr | None = Field(None, description="Stripe's secret or restricted key, sk_… or rk_…")
    stripe_webhook_secret: SecretStr | None = Field(None, description="Stripe's signing secret of our webhook, whsec_…")
    stripe_api_base: str = Field("https://api.stripe.com", description="where Stripe's API is asked")
    payment_timeout_s: float = Field(20.0, gt=0, description="longest wait for one answer of the card processor")
    download_ttl_s: int = Field(900, ge=1, description="life of a signed download address")
    crons: bool = Field(
        True, description="whether this process does what is due by the clock: monthly billing, grants, clean-up"
    )
    cron_secret: SecretStr | None = Field(
        None, description="at least 32 characters; bearer with which a clock outside may call the billing crons, and only those"
    )
    crash_at: str | None = Field(None, description="test part: the process kills itself at the crash point of this name")
    check_replies: bool = Field(False, description="holds raw replies against their declared shape before sending them")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line shown")

    def model_post_init(self, _context: Any) -> None:
        """Raises SettingsRefused for test parts in production."""
        if self.crash_at is not None and self.env == "production":
            raise SettingsRefused("GEOPERA_CRASH_AT is a test part and not for production. Unset it.")
        if self.cron_secret is not None and len(self.cron_secret.get_secret_value()) < 32:
            raise SettingsRefused("GEOPERA_CRON_SECRET is too short: use at least 32 random characters.")

    @property
    def card_processor(self) -> Literal["none", "test", "stripe"]:
        """The card processor that is chosen: by default the test processor, and none in production."""
        return self.payments or ("none" if self.env == "production" else "test")

    def require_payments(self) -> None:
        """Raises SettingsRefused for the test processor in production, and for Stripe without its keys."""
        if self.payments == "test" and self.env == "production":
            raise SettingsRefused(
                "GEOPERA_PAYMENTS=test gives credits for no money and is not for production. Set GEOPERA_PAYMENTS=stripe,"
                " GEOPERA_STRIPE_SECRET_KEY and GEOPERA_STRIPE_WEBHOOK_SECRET, or GEOPERA_PAYMENTS=none to take no cards."
            )
        if self.payments == "stripe" and not (self.stripe_secret_key and self.stripe_webhook_secret):
            raise SettingsRefused("GEOPERA_PAYMENTS=stripe needs GEOPERA_STRIPE_SECRET_KEY and GEOPERA_STRIPE_WEBHOOK_SECRET.")
        if self.env == "production" and self.stripe_secret_key and "_test_" in self.stripe_secret_key.get_secret_value():
            raise SettingsRefused(
                "GEOPERA_STRIPE_SECRET_KEY is a test key, which gives credits for no money. Set the live key (sk_live_… or"
                " rk_live_…), or leave GEOPERA_ENV at development."
            )
        if self.env == "production" and not self.stripe_api_base.startswith("https://"):
            raise SettingsRefused("GEOPERA_STRIPE_API_BASE must be an https:// address in production. Unset it to ask Stripe.")

    def master_secret(self) -> bytes:
        """Returns the deployment's secret; in development one is made on first use and kept in the data folder.

        Raises SettingsRefused in production without a secret of at least 32 characters.
        """
        if self.secret is not None:
            if len(self.secret.get_secret_value()) < 32:
                raise SettingsRefused("GEOPERA_SECRET is too short: use at least 32 random characters.")
            return self.secret.get_secret_value().encode()
        if self.env == "production":
            raise SettingsRefused("GEOPERA_ENV=production needs GEOPERA_SECRET: set it to at least 32 random characters.")
        return _kept_secret(self.data_dir / "secret")

    def key_for(self, purpose: str) -> bytes:
        """Returns 32 bytes for one purpose, derived from the master secret (HKDF-Expand of RFC 5869, one block)."""
        extracted = hmac.digest(b"geopera-server", self.master_secret(), hashlib.sha256)
        return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)


def _kept_secret(path: Path) -> bytes:
    """Reads the secret beside the data, or makes it: exclusively, so that two servers starting together agree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = base64.urlsafe_b64encode(secrets.token_bytes(48))
    temporary = path.with_name(f".secret.{os.getpid()}.{secrets.token_hex(4)}")
    temporary.touch(mode=0o600)
    temporary.write_bytes(fresh)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return path.read_bytes()
    finally:
        temporary.unlink()
    return fresh
