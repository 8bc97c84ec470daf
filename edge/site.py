"""``SITE.yml``: which devices are where, and how they are looked after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edge.fallback import FallbackName
from edge.map_check import map_problems
from edge.timing import ClockName
from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import DeviceConfig, TransformerConfig
from heron.powergrid.kept_orders import lost_stops, orders_file, state_folder
from heron.powergrid.modes import DRIVING, Mode
from heron.powergrid.plain_numbers import PlainNumbers
from heron.powergrid.registers.custom import MapConfig, load_map
from heron.powergrid.setups.checks import beyond_its_range
from heron.powergrid.setups.files import read_yaml
from heron.powergrid.setups.models import RESERVED_NAMES, device_config_class, known_types
from heron.powergrid.setups.problems import problems_of

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_\-]*$")]
UnitId = Annotated[int, Field(ge=0, le=255)]
PublicKey = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
Address = Annotated[str, Field(pattern=r"^[^\s:]+:\d{1,5}$")]


class _Frozen(PlainNumbers):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TlsConfig(_Frozen):
    """Modbus/TCP Security: mutual TLS.

    Attributes:
        ca: Certificates that the device's must descend from.
        cert: This edge's certificate; its role extension says what it may do.
        key: Its private key.
    """

    ca: Path
    cert: Path
    key: Path

    def within(self, folder: Path) -> TlsConfig:
        """Return the same with paths that are relative to a folder."""
        return TlsConfig(ca=folder / self.ca, cert=folder / self.cert, key=folder / self.key)


class LinkConfig(_Frozen):
    """One connection, shared by the units behind it.

    Attributes:
        name: For the devices to refer to.
        kind: ``tcp``; ``rtu_over_tcp`` for a serial server; ``tls``; ``serial``.
        address: HOST:PORT, or the serial port's path.
        timeout_s: Wall seconds that a unit has to answer.
        gap_s: Pause between two requests, for devices that need it.
        baudrate: Of a serial line, 8 data bits.
        parity: Of a serial line.
        tls: Certificates, for ``tls``.
    """

    name: Name
    kind: Literal["tcp", "rtu_over_tcp", "tls", "serial"] = "tcp"
    address: str
    timeout_s: float = Field(0.5, gt=0, le=5)
    gap_s: float = Field(0.0, ge=0, le=1)
    baudrate: int = Field(19200, ge=300, le=921600)
    parity: Literal["N", "E", "O"] = "E"
    tls: TlsConfig | None = None

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> Self:
        problems = []
        if (self.kind == "tls") != (self.tls is not None):
            problems.append(ConfigProblem("tls", self.tls, "for kind tls, and only for it"))
        if self.kind != "serial":
            host, _, port = self.address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                expected = "expected HOST:PORT, port 1 to 65535"
                problems.append(ConfigProblem("address", self.address, expected))
        if problems:
            raise ConfigError(problems)
        return self


class SiteDevice(_Frozen):
    """One device.

    Attributes:
        name: Its agent's id.
        type: Device type, as in setups.
        link: Name of its link.
        unit: Modbus unit id.
        map: Custom register map; without one it is a SunSpec DER (models 701, 702, 704, and 713
            where it stores), whose layout and scale factors are discovered at run time.
        mode: Mode to start in. In monitor and advisory mode its link cannot write.
        fallback: What to do without commands or data: ``safe`` or ``ieee1547``.
        reversion_s: Seconds of silence after which the device reverts; written with each
            set-point.
        heartbeat_s: Seconds between two heartbeats (model 715) while it is driven; None for one
            with each set-point only.
        read_write: It has function 23: a set-point is written and read back in one request.
        policy: Policy file of the device agent; without one a coordinator commands.
        candidate: Policy that decides in the shadow of ``policy``.
        config: Limits and safe set-point, as ``device_state_config`` in setups.
    """

    name: Name
    type: str
    link: Name
    unit: UnitId
    map: Path | None = None
    mode: Mode = Mode.CLOSED_LOOP
    fallback: FallbackName = FallbackName.SAFE
    reversion_s: float | None = Field(60.0, gt=0)
    heartbeat_s: float | None = Field(1.0, gt=0)
    read_write: bool = False
    policy: Path | None = None
    candidate: Path | None = None
    config: SerializeAsAny[DeviceConfig]

    @field_validator("config", mode="wrap")
    @classmethod
    def _by_type(cls, raw: Any, handler: Any, info: ValidationInfo) -> DeviceConfig:
        del handler
        model = device_config_class(str(info.data.get("type")))
        if model is None:  # the type is reported already
            return DeviceConfig.model_construct(bus="")
        return model.model_validate({"bus": "", **raw} if isinstance(raw, dict) else raw)

    @field_validator("type")
    @classmethod
    def _type_is_known(cls, value: str) -> str:
        if device_config_class(value) is None:
            raise ValueError(f"expected one of {', '.join(known_types())}")
        return value


class SiteMeter(_Frozen):
    """One SunSpec meter (model 213).

    Attributes:
        sign: -1 where it counts import as positive, as a microgrid's does.
        nominal_v: Nominal line-to-line voltage where it measures.
    """

    name: Name
    link: Name
    unit: UnitId
    sign: Literal[1, -1] = -1
    nominal_v: float = Field(gt=0)


class SiteConfig(_Frozen):
    """A whole site.

    Attributes:
        site: Name in the topics.
        edge_id: Name of the edge process.
        broker: MQTT broker.
        period_s: Seconds between two cycles of a device.
        clock: ``wall``: the edge's own clock counts. ``plant``: it follows the clock of an emulated
            plant on the broker, which then sets its time and rate; never beside real devices.
        http: HOST:PORT for ``/healthz`` and ``/metrics``; None for none.
        policy_key: Public key (64 hex characters) that must have signed every policy file, also
            one that replaces another while it runs; None asks for no signature.
        orders: File in which operators' orders outlive the process: what they stopped stays
            stopped. Beside the site file if not given, or in the folder that the service manager
            gives (``STATE_DIRECTORY``); null to forget them.
        store: File that keeps telemetry while the broker is away; None for none. A relative path
            counts from the site file, or from the folder that the service manager gives.
        store_max_mb: Largest size of that file.
        store_listener: Agent whose status must be online before telemetry counts as received,
            such as the historian's host; None: as soon as there is a broker.
    """

    site: Name = "site"
    edge_id: Name = "edge-1"
    broker: str = "mqtt://127.0.0.1:1883"
    period_s: float = Field(1.0, ge=0.02, le=3600)
    clock: ClockName = "wall"
    http: Address | None = None
    policy_key: PublicKey | None = None
    orders: Path | None = None
    store: Path | None = None
    store_max_mb: float = Field(100.0, gt=0)
    store_listener: str | None = None
    links: tuple[LinkConfig, ...] = Field(min_length=1)
    devices: tuple[SiteDevice, ...] = ()
    meters: tuple[SiteMeter, ...] = ()

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)
        return self

    def _problems(self) -> Iterator[ConfigProblem]:
        if not self.devices and not self.meters:
            yield ConfigProblem("devices", (), "expected at least one device or meter")
        yield from self._name_problems()
        links = {link.name for link in self.links}
        places: dict[tuple[str, int], str] = {}
        kinds: tuple[tuple[str, Sequence[SiteDevice | SiteMeter]], ...] = (
            ("devices", self.devices),
            ("meters", self.meters),
        )
        for kind, units in kinds:
            for i, unit in enumerate(units):
                if unit.link not in links:
                    expected = f"expected one of the links {', '.join(sorted(links))}"
                    yield ConfigProblem(f"{kind}[{i}].link", unit.link, expected)
                other = places.setdefault((unit.link, unit.unit), unit.name)
                if other != unit.name:
                    where = f"{kind}[{i}].unit"
                    yield ConfigProblem(where, unit.unit, f"that is {other} on link {unit.link}")
        for i, device in enumerate(self.devices):
            # nothing stands between a safe set-point and the wire: not data that is bad, nor a stop
            if device_config_class(device.type) is not None:
                yield from beyond_its_range(f"devices[{i}].config", device.config)
            if device.candidate is not None and device.policy is None:
                where = f"devices[{i}].candidate"
                yield ConfigProblem(where, str(device.candidate), "needs a policy to shadow")

    def _name_problems(self) -> Iterator[ConfigProblem]:
        units_named = [d.name for d in self.devices] + [m.name for m in self.meters]
        for what, names in (
            ("links", [link.name for link in self.links]),
            ("devices, meters", units_named),
        ):
            for name, times in Counter(names).items():
                if times > 1:
                    yield ConfigProblem(what, name, f"used {times} times, expected once")
        for name in units_named:
            if name in RESERVED_NAMES and name != "head":
                expected = f"another name; {name!r} is {RESERVED_NAMES[name]}"
                yield ConfigProblem("devices, meters", name, expected)


def load_site(path: Path) -> SiteConfig:
    """Read and check a site file; paths in it are relative to it.

    Raises:
        ConfigError: With every mistake found, those of its register maps among them.
    """
    raw = read_yaml(path)
    try:
        site = SiteConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(problems_of(error, str(path))) from error
    here = path.resolve().parent
    devices = tuple(
        device.model_copy(
            update={
                key: None if value is None else here / value
                for key, value in (
                    ("map", device.map),
                    ("policy", device.policy),
                    ("candidate", device.candidate),
                )
            }
        )
        for device in site.devices
    )
    links = tuple(
        link if link.tls is None else link.model_copy(update={"tls": link.tls.within(here)})
        for link in site.links
    )
    if "orders" in site.model_fields_set:
        orders = None if site.orders is None else here / site.orders
    else:
        orders = orders_file(site.edge_id, here)
    files = {
        # The site file's own folder is read-only under a service manager.
        "store": None if site.store is None else (state_folder(here) or here) / site.store,
        "orders": orders,
    }
    site = site.model_copy(update={"links": links, "devices": devices, **files})
    problems = [problem for device in devices for problem in _file_problems(device)]
    if orders is not None and orders.parent.is_dir():
        problems += lost_stops(orders, {device.name for device in devices})
    if problems:
        raise ConfigError(problems)
    return site


def _file_problems(device: SiteDevice) -> Iterator[ConfigProblem]:
    if device.map is not None:
        try:
            described = load_map(device.map)
        except ConfigError as error:
            yield from error.problems
        else:
            if device.mode in DRIVING:
                yield from _undrivable(device, described)
                yield from map_problems(device.config, described, device.reversion_s, device.map)
    for path in (device.policy, device.candidate):
        if path is not None and not path.is_file():
            yield ConfigProblem(f"{device.name}.policy", str(path), "there is no such file")


def _undrivable(device: SiteDevice, described: MapConfig) -> Iterator[ConfigProblem]:
    needed = "tap_set" if isinstance(device.config, TransformerConfig) else "p_set_mw"
    if needed not in described.points:
        expected = f"its map has no {needed}: expected monitor, advisory or stopped"
        yield ConfigProblem(f"{device.name}.mode", str(device.mode), expected)


def notes(site: SiteConfig) -> list[str]:
    """Return what is no mistake, but worth knowing before a site that was loaded is run."""
    found = []
    for device in site.devices:
        if device.mode not in DRIVING:
            continue
        mapped = device.map is None or "reversion_s" in load_map(device.map).points
        why = "its map has no reversion_s" if not mapped else "its reversion_s is null"
        if not mapped or device.reversion_s is None:
            found.append(f"{device.name} keeps its last set-point when this edge dies: {why}")
    return found
