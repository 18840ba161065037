"""The socket that a server listens on, taken before anything slow so that a taken port is told at once."""

from __future__ import annotations

import errno
import ipaddress
import socket

from geopera_server.transports.cli.trouble import Trouble


def take_port(host: str, port: int) -> socket.socket:
    """Returns a bound socket, not yet listening; port 0 takes any free one. Raises Trouble when it is not to be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise Trouble(f"{host} is no address of this machine ({error.strerror}). Give --host 127.0.0.1 or 0.0.0.0.") from None
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise port_trouble(host, port, error) from None
    return taken


def url_of(bound: socket.socket, host: str) -> str:
    """Returns an address at which this machine reaches the socket; loopback when it is bound to every address."""
    port = bound.getsockname()[1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def port_trouble(host: str, port: int, error: OSError) -> Trouble:
    """Returns what to tell about an address that could not be taken."""
    if error.errno == errno.EADDRINUSE:
        return Trouble(
            f"Port {port} of {host} is taken. Stop what listens there, or choose another: --port 0 takes any free one."
        )
    if error.errno == errno.EACCES:
        return Trouble(f"This user may not listen on port {port}. Choose one above 1023.")
    return Trouble(f"{host}:{port} cannot be listened on ({error.strerror}). Give --host an address of this machine.")
