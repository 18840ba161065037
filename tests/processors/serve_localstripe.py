"""Serves localstripe on any free port of loopback, and prints the port.

localstripe speaks the API of before 2026-09-30 and knows neither `off_session` at a confirmation nor the newer name for the
kinds of payment that are allowed; both are put into its words here. It keeps nothing on disk.
"""

from __future__ import annotations

import socket
import sys

from aiohttp import web
from localstripe import resources, server

_read_body = server.get_post_data


async def in_its_words(request, remove_auth=True):
    data = await _read_body(request, remove_auth)
    if data and remove_auth:
        if request.path.endswith("/confirm"):
            data.pop("off_session", None)
        if "allowed_payment_method_types" in data:
            data["payment_method_types"] = data.pop("allowed_payment_method_types")
    return data


server.get_post_data = in_its_words
resources.Store.dump_to_disk = lambda _store: None
listening = socket.create_server(("127.0.0.1", 0))
sys.stdout.write(f"{listening.getsockname()[1]}\n")
sys.stdout.flush()
web.run_app(server.app, sock=listening, print=None, access_log=None)
