"""Card processors to hold the adapters against: localstripe as a process, and a Stripe that answers what a test says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson

from support.loopback import LoopbackServer

PROCESSORS = Path(__file__).parents[1] / "processors"
CARD_NUMBERS = {
    "good": "4242424242424242",
    "declined": "4000000000000341",
    "asks": "4000002760003184",
    "asks and is declined": "4000008260003178",
    "unsavable": "4000000000000002",
}


class LocalStripe:
    """localstripe in an environment of its own, until the block ends."""

    def __enter__(self) -> LocalStripe:
        uv = os.environ.get("UV") or shutil.which("uv")
        assert uv, "uv is needed to install localstripe: run the tests with `make test`"
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run([uv, "sync", "--frozen", "--quiet", "--project", PROCESSORS / "env"], check=True, env=environment)
        python = PROCESSORS / "env" / ".venv" / "bin" / "python"
        self._process = subprocess.Popen(
            [python, PROCESSORS / "serve_localstripe.py"], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port.isdigit(), "localstripe did not start"
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, auth=("sk_test_local", ""), timeout=20, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._process.terminate()
        self._process.wait(timeout=20)
        self._process.stdout.close()

    def post(self, path: str, **form: Any) -> dict[str, Any]:
        """Does what a card holder's browser or the dashboard does, past the adapter."""
        response = self.http.post(path, data=form)
        assert response.is_success, response.text
        return response.json() if response.content else {}

    def collected(self, kind: str) -> str:
        """Returns the id of a card as the form has collected it."""
        card = {"card[number]": CARD_NUMBERS[kind], "card[exp_month]": "12", "card[exp_year]": "2040", "card[cvc]": "123"}
        return self.post("/v1/payment_methods", type="card", **card)["id"]


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    form: dict[str, str]


@dataclass
class ScriptedStripe:
    """Answers each request with the next of `script`: a body with its status and headers, or trouble."""

    script: deque[tuple[str, Any, int, Mapping[str, str]]] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    released: Event = field(default_factory=Event)

    def __enter__(self) -> ScriptedStripe:
        self._server = LoopbackServer(_handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answers(self, body: Any, status: int = 200, **headers: str) -> None:
        """Adds an answer to the script; bytes are sent as they are, anything else as JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.script.append(("body", body if isinstance(body, bytes) else orjson.dumps(body), status, named))

    def refuses(self, status: int, error: Mapping[str, Any], **headers: str) -> None:
        """Adds a refusal in Stripe's form, not to be tried again."""
        self.answers({"error": error}, status, stripe_should_retry="false", **headers)

    def breaks(self, times: int = 1) -> None:
        """Lets the connection end without an answer."""
        self.script.extend([("break", b"", 0, {})] * times)

    def hangs(self) -> None:
        """Gives no answer while the test lasts."""
        self.script.append(("hang", b"", 0, {}))


def _handler_of(stripe: ScriptedStripe) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            stripe.asked.append(Asked(self.command, self.path, dict(self.headers.items()), form))
            kind, told, status, headers = stripe.script.popleft()
            if kind == "hang":
                stripe.released.wait(30)
            if kind != "body":
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Tests say themselves what was asked."""

    return Handler
