"""Every name that a user of the guide looks for is where the guide says, with its parameters."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import pytest

import heron
from heron.scheduling import EventType, JitterType
from training.cli import train

CLASSES = {
    "heron.agents": "Agent FieldAgent CoordinatorAgent SystemAgent ProxyAgent HierarchicalAgent",
    "heron.core": "FeatureProvider State FieldAgentState CoordinatorAgentState SystemAgentState "
    "Action Observation Policy",
    "heron.protocols": "Protocol SetpointProtocol PriceSignalProtocol SystemProtocol "
    "PeerToPeerTradingProtocol ConsensusProtocol NoProtocol",
    "heron.protocols.base": "Protocol",
    "heron.protocols.vertical": "SetpointProtocol PriceSignalProtocol SystemProtocol",
    "heron.protocols.horizontal": "PeerToPeerTradingProtocol ConsensusProtocol",
    "heron.scheduling": "TickConfig JitterType EventScheduler Event EventType Condition "
    "Disturbance poisson_disturbances",
    "heron.messaging": "Broker InMemoryBroker Message",
    "heron.envs": "HeronEnvCore PettingZooParallelEnv TerminationConfig EpisodeStatistics",
    "heron.powergrid.agents": "DeviceAgent Generator ESS PV WindTurbine Transformer "
    "ControllableLoad EVCharger GridAgent PowerGridAgent DSOAgent DEVICE_REGISTRY register_device",
    "heron.powergrid.features": "ElectricalBasePh PhaseConnection InverterBasedSource PowerLimits "
    "StatusBlock StorageBlock TapChangerPh ThermalLoading ShuntCapacitorBlock VoltVarCurve "
    "BusVoltages LineFlows NetworkMetrics",
    "heron.powergrid.networks": "IEEE13Bus IEEE34Bus",
    "heron.powergrid.costs": "quadratic_cost",
    "heron.powergrid.setups": "load_setup get_available_setups load_dataset",
    "training.envs": "NetworkedGridEnv MultiAgentMicrogrids",
    "simulator": "Plant",
    "heron.policy": "OnnxPolicy",
    "heron": "make register registered",
}

METHODS = {
    "heron.agents:Agent": "reset observe act tick update_state update_cost_safety reset_agent "
    "enable_jitter disable_jitter send_message receive_messages request_state_from_proxy "
    "get_action_space get_observation",
    "heron.agents:FieldAgent": "set_state set_action apply_action respond_to_price",
    "heron.agents:CoordinatorAgent": "coordinate_subordinates _build_subordinates subordinates",
    "heron.agents:SystemAgent": "coordinators",
    "heron.core:FeatureProvider": "visibility vector names to_dict from_dict set_values reset "
    "is_observable_by",
    "heron.core:State": "update_feature observed_by vector reset",
    "heron.core:Action": "set_specs set_values scale unscale vector from_gym_space space",
    "heron.scheduling:TickConfig": "deterministic with_jitter next_tick_interval next_obs_delay "
    "next_act_delay next_msg_delay",
    "heron.scheduling:EventScheduler": "register_agent schedule schedule_agent_tick "
    "schedule_action_effect schedule_message_delivery set_handler run_until",
    "heron.messaging:InMemoryBroker": "create_channel publish consume subscribe "
    "clear_environment close",
    "heron.envs:HeronEnvCore": "register_agent get_heron_agent get_observations apply_actions "
    "reset_agents setup_event_driven setup_default_handlers run_event_driven "
    "configure_agents_for_distributed",
    "heron.powergrid.agents:PowerGridAgent": "devices _build_subordinates set_state",
    "training.envs:NetworkedGridEnv": "_build_net _build_agents _reward_and_safety reset step "
    "observation_space action_space",
}

PARAMETERS = {
    "heron.agents:FieldAgent": "agent_id policy protocol upstream_id env_id config tick_config",
    "heron.agents:CoordinatorAgent": "agent_id policy protocol upstream_id env_id config "
    "tick_config",
    "heron.agents:ProxyAgent": "agent_id env_id registered_agents visibility_rules history_length",
    "heron.agents:Agent.reset": "seed",
    "heron.agents:Agent.observe": "global_state proxy",
    "heron.agents:Agent.tick": "scheduler current_time global_state proxy",
    "heron.agents:Agent.request_state_from_proxy": "proxy owner_id at_time",
    "heron.agents:CoordinatorAgent.coordinate_subordinates": "observation action",
    "heron.agents:CoordinatorAgent._build_subordinates": "configs env_id upstream_id",
    "heron.core:FeatureProvider.is_observable_by": "requestor_id requestor_level owner_id "
    "owner_level",
    "heron.core:Action.set_specs": "dim_c dim_d ncats range",
    "heron.core:Observation": "local global_info timestamp",
    "heron.protocols:PriceSignalProtocol": "initial_price",
    "heron.protocols:PeerToPeerTradingProtocol": "trading_fee",
    "heron.protocols:ConsensusProtocol": "max_iterations tolerance value_field",
    "heron.scheduling:TickConfig": "tick_interval obs_delay act_delay msg_delay jitter_type "
    "jitter_ratio min_delay rng",
    "heron.scheduling:EventScheduler.run_until": "t_end max_events",
    "heron.messaging:InMemoryBroker.consume": "channel recipient_id env_id clear",
    "heron.envs:PettingZooParallelEnv": "env_id",
    "heron.envs:HeronEnvCore.get_observations": "global_state",
    "heron.envs:HeronEnvCore.run_event_driven": "t_end",
    "heron.envs:HeronEnvCore.setup_default_handlers": "global_state_fn on_action_effect",
    "heron.powergrid.agents:PowerGridAgent": "net grid_config protocol policy tick_config",
    "heron.powergrid.features:ElectricalBasePh": "p_MW q_MVAr v_pu va_deg",
    "heron.powergrid.features:StorageBlock": "soc e_capacity_MWh ch_eff dsc_eff",
    "heron.powergrid.features:BusVoltages": "vm_pu v_min v_max",
    "heron.powergrid.features:LineFlows": "p_MW loading_pct max_loading",
    "training.envs:MultiAgentMicrogrids": "env_config",
}

TRAINING_FLAGS = """
    --test --iterations --num-workers --num-envs-per-worker --train-batch-size --lr --gamma
    --lambda --hidden-dim --seed --no-cuda --penalty --share-reward --no-share-reward
    --visibility-level --protocol --independent-policies --checkpoint-freq --checkpoint-dir
    --resume --wandb --wandb-project --experiment-name --event-driven-test
    --event-driven-episodes
"""


def thing(path: str) -> Any:
    """Return what ``module:name`` or ``module:Class.method`` names."""
    module, _, name = path.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def each(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(place, name) for place, names in table.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), each(CLASSES))
def test_a_name_of_the_guide_is_in_its_module(module: str, name: str) -> None:
    assert hasattr(import_module(module), name)


@pytest.mark.parametrize(("kind", "name"), each(METHODS))
def test_a_class_of_the_guide_has_its_methods(kind: str, name: str) -> None:
    assert hasattr(thing(kind), name)


@pytest.mark.parametrize(("what", "names"), PARAMETERS.items())
def test_a_call_of_the_guide_takes_its_parameters_by_name(what: str, names: str) -> None:
    taken = inspect.signature(thing(what)).parameters
    missing = [name for name in names.split() if name not in taken]
    assert missing == []


def test_the_proxy_keeps_a_hundred_states_and_a_price_begins_at_50() -> None:
    defaults = {
        "heron.agents:ProxyAgent": ("history_length", 100),
        "heron.protocols:PriceSignalProtocol": ("initial_price", 50.0),
        "heron.protocols:PeerToPeerTradingProtocol": ("trading_fee", 0.01),
        "heron.protocols:ConsensusProtocol": ("max_iterations", 10),
    }
    for what, (name, value) in defaults.items():
        assert inspect.signature(thing(what)).parameters[name].default == value, what


def test_jitter_and_event_types_have_the_guides_members() -> None:
    assert {"NONE", "UNIFORM", "GAUSSIAN"} <= set(JitterType.__members__)
    assert set(EventType.__members__) >= {
        "AGENT_TICK",
        "ACTION_EFFECT",
        "MESSAGE_DELIVERY",
        "OBSERVATION_READY",
        "ENV_UPDATE",
        "CUSTOM",
    }


def test_every_flag_of_the_guides_training_script_is_understood(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        train.run(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert [flag for flag in TRAINING_FLAGS.split() if flag not in known] == []


def test_the_guides_environment_is_made_by_its_name() -> None:
    assert "MultiAgentMicrogrids-v0" in heron.registered()
