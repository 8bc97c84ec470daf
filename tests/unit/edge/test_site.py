import re
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from edge.site import SiteConfig, load_site
from heron.errors import ConfigError
from heron.powergrid.kept_orders import KeptOrders
from heron.powergrid.modes import Authority, Mode, ModeMachine

GOOD = """
site: plant-a
broker: mqtt://127.0.0.1:1883
links:
  - {name: yard, address: "10.0.0.5:502"}
  - {name: bus, kind: serial, address: /dev/ttyUSB0, baudrate: 9600}
devices:
  - name: ess1
    type: ESS
    link: yard
    unit: 2
    fallback: ieee1547
    config: {p_max_MW: 0.5, p_min_MW: -0.5, safe_p_mw: 0.0}
  - name: pv1
    type: PV
    link: bus
    unit: 3
    mode: monitor
    config: {p_rated_MW: 0.3}
meters:
  - {name: MG1, link: yard, unit: 201, nominal_v: 24900}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "SITE.yml"
        path.write_text(dedent(text))
        return path

    return write


def test_a_good_site_is_read(write) -> None:
    site = load_site(write(GOOD))
    assert [device.name for device in site.devices] == ["ess1", "pv1"]
    assert site.devices[0].config.p_range_mw == (-0.5, 0.5)
    assert site.devices[1].mode is Mode.MONITOR
    assert site.meters[0].sign == -1


def test_every_mistake_is_reported_at_once(write) -> None:
    text = GOOD.replace("unit: 2", "unit: 300").replace("type: PV", "type: Windmill")
    text = text.replace("10.0.0.5:502", "10.0.0.5").replace("baudrate: 9600", "baud: 9600")
    with pytest.raises(ConfigError) as caught:
        load_site(write(text))
    said = str(caught.value)
    for part in ("devices[0].unit", "Windmill", "HOST:PORT", "links[1].baud", "SITE.yml"):
        assert part in said


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("link: bus", "link: nowhere"), "expected one of the links bus, yard"),
        (("unit: 201", "unit: 2"), "that is ess1 on link yard"),
        (("name: pv1", "name: ess1"), "used 2 times"),
        (("fallback: ieee1547", "fallback: hope"), "devices[0].fallback"),
        (("fallback: ieee1547", "candidate: new.onnx"), "needs a policy to shadow"),
        (("fallback: ieee1547", "policy: none.onnx"), "there is no such file"),
        (("fallback: ieee1547", "map: none.yml"), "none.yml"),
        (('"10.0.0.5:502"', '"10.0.0.5:99999"'), "port 1 to 65535"),
        (("kind: serial", "kind: tls"), "HOST:PORT"),
        (("kind: serial", "kind: carrier-pigeon"), "links[1].kind"),
        (("p_max_MW: 0.5", "p_max_MW: -0.5"), "p_max"),
    ],
)
def test_a_mistake_names_the_key_and_what_would_be_right(
    write, change: tuple[str, str], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_site(write(GOOD.replace(*change)))
    assert text in str(caught.value)


def test_paths_are_relative_to_the_site_file(write) -> None:
    site = load_site(write(GOOD + "store: telemetry.db\n"))
    assert site.store is not None
    assert site.store.is_absolute()


def test_the_site_file_of_the_documentation_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs/edge.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    site = SiteConfig.model_validate(yaml.safe_load(block))
    assert [device.name for device in site.devices] == ["ess1", "pv9"]


def test_a_device_whose_map_takes_no_command_may_only_be_watched(write, tmp_path: Path) -> None:
    (tmp_path / "meter-like.yml").write_text("name: m\npoints:\n  p_mw: {address: 1}\n")
    text = GOOD.replace("fallback: ieee1547", "map: meter-like.yml")
    with pytest.raises(ConfigError, match=r"ess1\.mode.*no p_set_mw: expected monitor"):
        load_site(write(text))
    watched = load_site(write(text.replace("unit: 2\n", "unit: 2\n    mode: monitor\n", 1)))
    assert watched.devices[0].mode is Mode.MONITOR


@pytest.mark.parametrize("key", ["'abc'", f"'{'g' * 64}'"])
def test_a_policy_key_that_is_none_is_refused(write, key: str) -> None:
    with pytest.raises(ConfigError, match="policy_key"):
        load_site(write(GOOD + f"policy_key: {key}\n"))


@pytest.mark.parametrize("key", ["safe_p_mw", "safe_q_mvar"])
def test_a_safe_setpoint_beyond_the_device_is_refused(write, key: str) -> None:
    text = GOOD.replace("safe_p_mw: 0.0", f"{key}: 5.0")
    with pytest.raises(ConfigError, match=rf"devices\[0\].config.{key} = 5.0: .* range"):
        load_site(write(text))


def test_a_stop_of_a_device_that_was_renamed_is_a_mistake(write, tmp_path: Path) -> None:
    orders = KeptOrders(tmp_path / "edge-1.orders.json")
    machine = ModeMachine()
    machine.request(Mode.STOPPED, Authority.OPERATOR, "fuse out")
    orders.note_mode("ess1", machine)
    assert load_site(write(GOOD)).devices[0].name == "ess1"
    with pytest.raises(ConfigError, match=r"devices = 'ess1': .*an operator stopped it"):
        load_site(write(GOOD.replace("name: ess1", "name: battery")))


def test_a_device_is_not_called_as_everybody_is(write) -> None:
    with pytest.raises(ConfigError, match="another name; 'all' is"):
        load_site(write(GOOD.replace("name: ess1", "name: all")))


def test_a_switch_is_no_number(write) -> None:
    with pytest.raises(ConfigError, match="a number, not true or false"):
        load_site(write(GOOD + "period_s: yes\n"))
