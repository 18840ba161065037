"""A human's web browser, as far as sign-in pages need one."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

import httpx


@dataclass
class Browser:
    """Opens pages and sends the forms on them; keeps cookies, follows nothing."""

    http: httpx.AsyncClient
    page: httpx.Response = field(init=False)

    async def open(self, address: str) -> str:
        """Opens an address and returns what the page says."""
        self.page = await self.http.get(address)
        return self.page.text

    async def send(self, **typed: str) -> str:
        """Fills in the form of the page, sends it and returns what the next page says."""
        action = re.search(r'<form method="post" action="([^"]+)"', self.page.text)
        assert action, self.page.text
        fields = [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in re.findall(r"<input [^>]*>", self.page.text)]
        filled = {each["name"]: html.unescape(each.get("value", "")) for each in fields}
        self.page = await self.http.post(html.unescape(action.group(1)), data={**filled, **typed})
        return self.page.text

    async def sign_in(self, email: str, password: str) -> str:
        """Signs in on the page that asks for it."""
        return await self.send(username=email, password=password, action="sign-in")
