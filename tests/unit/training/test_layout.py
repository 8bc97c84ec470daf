from __future__ import annotations

import numpy as np

from heron.policy import FieldSpec, PolicyCodec, SetpointSpec
from training.rllib.layout import Layout

TYPES = {"gen1": "Generator", "ess1": "ESS", "ess3": "ESS", "ess4": "ESS"}


def codec(agent: str, *devices: str) -> PolicyCodec:
    return PolicyCodec(
        agent,
        (
            FieldSpec(agent, "Price", "now"),
            *(FieldSpec(d, "Electrical", "p") for d in devices),
            *(FieldSpec(d, "Electrical", "v") for d in devices),
        ),
        tuple(SetpointSpec(d, "p_mw", -1.0, 1.0) for d in devices),
    )


LAYOUT = Layout.of(
    {"MG1": codec("MG1", "gen1", "ess1"), "MG3": codec("MG3", "ess3", "ess4")}, TYPES
)


def test_devices_of_one_type_share_a_slot() -> None:
    assert LAYOUT.obs_index["MG1"].tolist() == [0, 1, 2, 3, 4]
    assert LAYOUT.obs_index["MG3"].tolist() == [0, 2, 5, 4, 6]
    assert LAYOUT.act_index["MG1"].tolist() == [0, 1]
    assert LAYOUT.act_index["MG3"].tolist() == [1, 2]


def test_padding_keeps_every_number_and_adds_the_agents_code() -> None:
    obs = np.arange(1.0, 6.0, dtype=np.float32)
    padded = LAYOUT.pad("MG3", np.stack([obs, -obs]))
    assert padded.shape == (2, LAYOUT.obs_dim)
    assert padded[0].tolist() == [1.0, 0.0, 2.0, 0.0, 4.0, 3.0, 5.0, 0.0, 1.0]
    assert (padded[1, :7] == -padded[0, :7]).all()


def test_masks_say_which_actions_an_agent_has() -> None:
    assert LAYOUT.action_masks.tolist() == [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    action = np.array([10.0, 20.0, 30.0], dtype=np.float32)
    assert LAYOUT.unpad("MG3", action).tolist() == [20.0, 30.0]
