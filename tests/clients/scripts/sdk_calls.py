"""Makes the calls it is told to, one per line of JSON, through the Python SDK, and prints what the SDK made of each reply.

A call names the operation, the body, and `how` it is made: `sync`, `asyncio`, or `fluent` through the namespaced client.
Bodies become the SDK's own input models, as its documentation shows; null stays None.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import typing

from geopera import AuthenticatedClient, Client, Geopera


def make_client(call):
    """Returns the SDK's client for a call, with a credential where the call has one."""
    if call.get("token") is None:
        return Client(base_url=call["base_url"])
    client = AuthenticatedClient(base_url=call["base_url"], token=call["token"])
    return client.with_headers(call.get("headers", {}))


def module_of(call):
    return importlib.import_module("geopera.api.operations." + call["operation"].replace(".", "_"))


def as_model(module, body):
    """Returns the body as the model that the operation's function asks for."""
    if body is None or "body" not in inspect.signature(module.sync_detailed).parameters:
        return body
    wanted = typing.get_type_hints(module.sync_detailed)["body"]
    models = [each for each in (wanted, *typing.get_args(wanted)) if hasattr(each, "from_dict")]
    return models[0].from_dict(body)


def responded(call):
    module = module_of(call)
    body = as_model(module, call["body"])
    if call["how"] == "asyncio":
        return asyncio.run(module.asyncio_detailed(client=make_client(call), body=body, **call.get("more", {})))
    return module.sync_detailed(client=make_client(call), body=body, **call.get("more", {}))


def fluently(call):
    """Calls through the namespaced client, which tells the status only when asked for details."""
    node = Geopera(token=call.get("token"), base_url=call["base_url"])
    for part in call["operation"].split("."):
        node = getattr(node, part)
    return node(call["body"], detailed=True)


def told(call):
    try:
        response = fluently(call) if call["how"] == "fluent" else responded(call)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what the test wants to see)
        return {"raised": f"{type(error).__name__}: {error}"}
    parsed = response.parsed
    content = parsed.to_dict() if hasattr(parsed, "to_dict") else parsed
    return {"status": int(response.status_code), "model": type(parsed).__name__, "content": content}


for line in sys.stdin:
    sys.stdout.write(json.dumps(told(json.loads(line)), default=str) + "\n")
    sys.stdout.flush()
