"""The transports of Modbus: TCP, TLS, RTU over TCP, RTU over a serial line."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from edge.links.client import Client, ClientFactory
from edge.links.mbap import MbapClient
from edge.site import LinkConfig, TlsConfig
from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.registers.roles import ROLES, Rights, role_in


def tcp_client(
    host: str, port: int, timeout_s: float, context: ssl.SSLContext | None = None
) -> ClientFactory:
    """Return a factory of clients of Modbus/TCP, inside TLS where a context is given.

    Modbus/TCP Security keeps the header: its frames are those of Modbus/TCP, however TLS cuts
    them into records.

    Source: MODBUS/TCP Security Protocol Specification v21, section 6.
    """

    def make(lost: Callable[[], None]) -> Client:
        return MbapClient(host, port, timeout_s, lost, context)

    return make


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Return what a client of Modbus/TCP Security connects with: mutual TLS, 1.2 or newer.

    Raises:
        ConfigError: A certificate or key cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(tls.ca)
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        where = f"{tls.ca}, {tls.cert}, {tls.key}"
        raise ConfigError([ConfigProblem("tls", where, f"cannot be used: {error}")]) from error
    return context


def may_only_read(tls: TlsConfig) -> bool:
    """Whether the role in this edge's own certificate forbids to write.

    A role that we do not know, or none, is left to the device to judge.
    """
    role = role_in(tls.cert)
    return role is not None and Rights.WRITE not in ROLES.get(role, Rights.WRITE)


def client_factory(link: LinkConfig) -> ClientFactory:
    """Return what makes the clients of a configured link.

    Raises:
        ConfigError: A certificate or key cannot be used.
    """
    if link.kind == "serial":
        return _rtu(link)
    host, _, port = link.address.rpartition(":")
    if link.kind == "rtu_over_tcp":
        return _rtu(link)
    context = None if link.tls is None else tls_context(link.tls)
    return tcp_client(host, int(port), link.timeout_s, context)


def _rtu(link: LinkConfig) -> ClientFactory:
    # An edge without RTU does without pymodbus: less to import, less memory.
    from edge.links import rtu

    rtu.quieten()

    def make(lost: Callable[[], None]) -> Client:
        if link.kind == "serial":
            return rtu.over_serial(link.address, link.baudrate, link.parity, link.timeout_s, lost)
        host, _, port = link.address.rpartition(":")
        return rtu.over_tcp(host, int(port), link.timeout_s, lost)

    return make
