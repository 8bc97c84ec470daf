"""A photovoltaic device of one's own: with its features, its cost, in the plant and on the wire.

Run: python examples/04_custom_device.py
"""

import numpy as np

from heron.powergrid.agents import DeviceAgent, register_device
from heron.powergrid.device_configs import PVConfig
from heron.powergrid.features import ElectricalBasePh, InverterBasedSource
from heron.powergrid.quantities import DeviceReading
from heron.powergrid.registers import site_plan
from heron.powergrid.setups import as_setup, load_setup
from training.envs import MultiAgentMicrogrids


class TrackerConfig(PVConfig):
    """A PV plant on a tracker: curtailing it costs the operator a premium that it loses."""

    premium_usd_per_mwh: float = 12.0

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Premium lost; nothing is lost where the available power is not known."""
        available = reading.p_mw if reading.available_mw is None else reading.available_mw
        return self.premium_usd_per_mwh * max(0.0, available - reading.p_mw)


@register_device("TrackerPV")
class TrackerPV(DeviceAgent):
    """Its action: a ceiling on active power, and reactive power."""

    config_model = TrackerConfig
    p_mapping = "ceiling"

    def set_state(self) -> None:
        """What it shows."""
        super().set_state()
        self.state.features.append(ElectricalBasePh())
        self.state.features.append(InverterBasedSource())


def main() -> None:
    config = load_setup("ieee34_ieee13")
    tracker = config["microgrid_configs"][0]["devices"][2]
    tracker["type"] = "TrackerPV"
    setup = as_setup(config)
    env = MultiAgentMicrogrids(setup)
    device = env.agent_dict["MG1"].devices["pv1"]
    print(f"{device.agent_id} is a {type(device).__name__} with {device.action.dim_c} set-points")
    assert isinstance(device, TrackerPV)

    env.reset(seed=0, options={"day": 150})
    rest = {a: np.zeros(env.action_space(a).shape, np.float32) for a in env.agents}
    for _ in range(48):
        env.step(rest)
    sunny = env.measurements.devices["pv1"]
    curtailed = {a: x.copy() for a, x in rest.items()}
    curtailed["MG1"][4] = -1.0
    env.step(curtailed)
    dark = env.measurements.devices["pv1"]
    lost = env.accounts.agents["MG1"].device_cost_usd["pv1"]
    print(f"at noon {sunny.p_mw:.3f} MW; curtailed {dark.p_mw:.3f} MW, {lost:.2f} $ in 15 min")
    assert sunny.p_mw > 0.05 > dark.p_mw
    assert lost > 0.0

    unit = site_plan(setup.config).devices["pv1"]
    step_kw = 1e3 * unit.table.resolution("p_mw")
    print(f"on the wire: Modbus unit {unit.unit_id}, power in steps of {step_kw:g} kW")


if __name__ == "__main__":
    main()
