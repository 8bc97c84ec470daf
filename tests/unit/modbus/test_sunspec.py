import pytest

from heron.errors import ConfigError
from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.sunspec import ModelChoice, fixed_values, lay_out, shipped_models
from heron.powergrid.registers.table import Access

# Registers with the two of the header, as published.
SIZES = {1: 68, 213: 126, 203: 107, 701: 155, 702: 52, 703: 19, 704: 67, 713: 9, 715: 9, 802: 64}


@pytest.mark.parametrize("model_id", SIZES)
def test_a_model_takes_as_many_registers_as_published(model_id: int) -> None:
    assert lay_out([ModelChoice(model_id)]).model(model_id).count == SIZES[model_id]


def test_models_follow_each_other_without_a_gap() -> None:
    layout = lay_out([ModelChoice(m) for m in (1, 701, 704)])
    assert [m.address for m in layout.models] == [40002, 40070, 40225]
    assert layout.registers["marker"].address == 40000
    assert layout.registers["end.ID"].address == 40292
    covered = {a for r in layout.registers.values() for a in range(r.address, r.end)}
    assert covered == set(range(40000, 40294))


def test_points_carry_type_unit_access_scale_factor_and_symbols() -> None:
    registers = lay_out([ModelChoice(704, exponents={"WSet_SF": 1})]).registers
    point = registers["704.WSet"]
    assert (point.type, point.unit, point.access) == (RegisterType.INT32, "W", Access.READ_WRITE)
    assert (point.scale_factor, point.exponent, point.resolution) == ("704.WSet_SF", 1, 10.0)
    assert registers["704.WSetRvrtRem"].access is Access.READ
    assert registers["704.WSetMod"].symbols == {0: "W_MAX_PCT", 1: "WATTS"}
    assert registers["704.PFWInj.PF"].address == registers["704.VarSetPct_SF"].end


def test_groups_repeat_within_groups() -> None:
    choice = ModelChoice(705, repeats={"Crv": 2, "Pt": 4})
    layout = lay_out([choice])
    first, second = (layout.registers[f"705.Crv[{i}].Pt[1].V"] for i in (1, 2))
    assert second.address - first.address == 10 + 2 * 4
    assert first.scale_factor == "705.V_SF"
    values = fixed_values(layout, [choice])
    assert (values["705.NCrv"], values["705.NPt"]) == (2, 4)
    assert values["705.L"] == layout.model(705).count - 2


def test_a_group_that_fills_the_rest_counts_itself() -> None:
    choice = ModelChoice(160, repeats={"module": 3})
    layout = lay_out([choice])
    assert layout.model(160).count == 10 + 3 * 20
    assert fixed_values(layout, [choice])["160.N"] == 3


def test_a_model_that_does_not_ship_is_named_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"model = 999: .*701, 702, 703"):
        lay_out([ModelChoice(999)])


def test_every_shipped_model_can_be_placed() -> None:
    for model_id in shipped_models():
        assert lay_out([ModelChoice(model_id)]).model(model_id).count > 2
