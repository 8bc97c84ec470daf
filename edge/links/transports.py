"""The transports of Modbus: TCP, RTU over TCP, RTU over a serial line, TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.transport import CommParams, CommType

from edge.links.connection import ClientFactory
from edge.site import LinkConfig, TlsConfig
from heron.errors import ConfigError, ConfigProblem

# The connection's own deadline decides; pymodbus's later one only bounds its connect.
LATER_S = 1.0


def tcp_client(
    host: str, port: int, timeout_s: float, framer: FramerType = FramerType.SOCKET
) -> ClientFactory:
    """Return a factory of clients over TCP; with the RTU framer, of a serial server."""

    def make(changed: Callable[[bool], None]) -> ModbusBaseClient:
        return AsyncModbusTcpClient(
            host,
            port=port,
            framer=framer,
            timeout=timeout_s + LATER_S,
            retries=0,
            reconnect_delay=0,
            trace_connect=changed,
        )

    return make


class _TlsClient(AsyncModbusTcpClient):
    """Modbus/TCP frames, header and all, inside TLS, as the specification has them.

    pymodbus's own TLS client leaves the header out, and takes one TLS record as one frame.

    Source: MODBUS/TCP Security Protocol Specification, v21, section 6.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        timeout_s: float,
        changed: Callable[[bool], None],
    ) -> None:
        self.comm_params = CommParams(
            comm_type=CommType.TLS,
            host=host,
            port=port,
            sslctx=context,
            reconnect_delay=0,
            timeout_connect=timeout_s,
        )
        super().__init__(host, port=port, retries=0, trace_connect=changed)


def tls_client(host: str, port: int, timeout_s: float, tls: TlsConfig) -> ClientFactory:
    """Return a factory of clients of Modbus/TCP Security: mutual TLS, 1.2 or newer.

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

    def make(changed: Callable[[bool], None]) -> ModbusBaseClient:
        return _TlsClient(host, port, context, timeout_s + LATER_S, changed)

    return make


def serial_client(path: str, baudrate: int, parity: str, timeout_s: float) -> ClientFactory:
    """Return a factory of clients over a serial line, RTU, 8 data bits."""

    def make(changed: Callable[[bool], None]) -> ModbusBaseClient:
        return AsyncModbusSerialClient(
            path,
            baudrate=baudrate,
            parity=parity,
            # The standard asks for two stop bits where there is no parity bit.
            stopbits=2 if parity == "N" else 1,
            timeout=timeout_s + LATER_S,
            retries=0,
            reconnect_delay=0,
            trace_connect=changed,
        )

    return make


def client_factory(link: LinkConfig) -> ClientFactory:
    """Return what makes the clients of a configured link.

    Raises:
        ConfigError: A certificate or key cannot be used.
    """
    if link.kind == "serial":
        return serial_client(link.address, link.baudrate, link.parity, link.timeout_s)
    host, _, port = link.address.rpartition(":")
    if link.tls is not None:
        return tls_client(host, int(port), link.timeout_s, link.tls)
    framer = FramerType.RTU if link.kind == "rtu_over_tcp" else FramerType.SOCKET
    return tcp_client(host, int(port), link.timeout_s, framer)
