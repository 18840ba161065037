"""The device flow: what the command line asks and what the browser does meanwhile."""

from __future__ import annotations

import re
from html import unescape

import pytest

from support.realms import BASE_URL, DEVICE_GRANT, PASSWORD, PROTOCOL, pkce

DEVICE = "/realms/public/device"


class Device:
    """The command line, as recorded on the wire."""

    def __init__(self, realms):
        self.realms = realms
        self.verifier, self.challenge = pkce()
        self.begun = {}

    async def begin(self):
        form = {
            "client_id": "geopera-cli", "scope": "openid profile",
            "code_challenge": self.challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        response = await self.realms.http.post(f"{PROTOCOL}/auth/device", data=form)
        assert response.status_code == 200, response.text
        self.begun = response.json()
        return self

    async def poll(self, status=400, **changes):
        form = {
            "device_code": self.begun["device_code"], "client_id": "geopera-cli", "code_verifier": self.verifier, **changes,
        }  # fmt: skip
        return await self.realms.token(DEVICE_GRANT, status, **{k: v for k, v in form.items() if v is not None})

    async def waited(self, seconds):
        """Lets that much time pass for the server."""
        await self.realms.sql("UPDATE device_grant SET last_polled_at = last_polled_at - make_interval(secs => %s)", seconds)

    async def submit(self, page, **fields):
        found = {unescape(k): unescape(v) for k, v in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page.text)}
        return await self.realms.http.post(DEVICE, data={**found, **fields})

    async def consent_page(self, code=None):
        page = await self.realms.http.get(DEVICE)
        page = await self.submit(page, user_code=code or self.begun["user_code"])
        return await self.submit(page, username=self.realms.email, password=PASSWORD, action="sign-in")


@pytest.fixture
async def device(realms):
    return await Device(realms).begin()


async def test_what_the_device_is_told(device):
    begun = device.begun
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", begun["user_code"])
    assert begun["verification_uri"] == f"{BASE_URL}{DEVICE}"
    assert begun["verification_uri_complete"] == f"{BASE_URL}{DEVICE}?user_code={begun['user_code']}"
    assert (begun["interval"], begun["expires_in"]) == (5, 600)


async def test_approved(realms, device):
    assert (await device.poll())["error"] == "authorization_pending"
    page = await realms.http.get(device.begun["verification_uri_complete"])
    assert device.begun["user_code"] in page.text
    consent = await device.consent_page(device.begun["user_code"].lower().replace("-", " "))
    assert device.begun["user_code"] in consent.text
    assert "Command line" in consent.text
    done = await device.submit(consent, action="allow")
    assert "connected" in done.text
    reply = await device.poll(200)
    assert "orders:write" in reply["scope"].split()
    me = (await realms.op("users.me", token=reply["access_token"])).json()
    assert (me["sub"], me["organization_id"]) == (realms.owner_id, realms.organization_id)
    await realms.refresh(reply["refresh_token"])
    assert (await device.poll())["error"] == "invalid_grant"


async def test_polling_too_fast_slows_the_device_down(device):
    assert (await device.poll())["error"] == "authorization_pending"
    assert (await device.poll())["error"] == "slow_down"
    await device.waited(5)
    assert (await device.poll())["error"] == "slow_down"
    await device.waited(15)
    assert (await device.poll())["error"] == "authorization_pending"


async def test_an_approved_device_is_not_slowed_down(device):
    await device.poll()
    await device.submit(await device.consent_page(), action="allow")
    await device.poll(200)


async def test_denied(device):
    denied = await device.submit(await device.consent_page(), action="deny")
    assert "denied" in denied.text
    assert (await device.poll())["error"] == "access_denied"


async def test_expired(realms, device):
    await realms.sql("UPDATE device_grant SET expires_at = now()")
    assert (await device.poll())["error"] == "expired_token"
    page = await device.submit(await realms.http.get(DEVICE), user_code=device.begun["user_code"])
    assert (page.status_code, "unknown or has expired" in page.text) == (400, True)


@pytest.mark.parametrize("verifier", [None, "w" * 43])
async def test_only_the_device_that_began_can_finish(device, verifier):
    await device.submit(await device.consent_page(), action="allow")
    assert (await device.poll(code_verifier=verifier))["error"] == "invalid_grant"
    await device.poll(200)


@pytest.mark.parametrize("changes", [{"device_code": "unknown"}, {"client_id": "geopera"}])
async def test_not_this_devices_code(device, changes):
    assert (await device.poll(**changes))["error"] in {"invalid_grant", "unauthorized_client"}


async def test_only_clients_with_the_grant_begin(realms):
    response = await realms.http.post(f"{PROTOCOL}/auth/device", data={"client_id": "geopera"})
    assert response.json()["error"] == "unauthorized_client"


async def test_a_decision_is_made_once(device):
    consent = await device.consent_page()
    await device.submit(consent, action="allow")
    again = await device.submit(consent, action="deny")
    assert again.status_code == 400
    await device.poll(200)


async def test_guessing_codes_is_limited(realms, device):
    page = await realms.http.get(DEVICE)
    statuses = [(await device.submit(page, user_code="BBBB-BBBB")).status_code for _ in range(11)]
    assert statuses == [400] * 10 + [429]
