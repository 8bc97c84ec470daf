from collections.abc import Callable

import pytest
import yaml

from heron.errors import ConfigError
from heron.powergrid.device_configs import PVConfig, StorageConfig
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers import DerTable, MapTable, Ratings, Words, parse_map
from heron.powergrid.registers.discovery import Read, describe, discover, summary
from simulator.modbus.der import DerImage
from simulator.modbus.image import RefusalError, UnitImage

READING = DeviceReading(0.1234, -0.05, 1.01, 1.0, 1.02, soc=0.62)


def battery(models: tuple[int, ...] = ()) -> DerImage:
    config = {"bus": "b", "e_capacity_mwh": 2, "p_max_mw": 0.5, "p_min_mw": -0.5}
    config |= {"s_rated_mva": 0.6, "q_max_mvar": 0.2, "q_min_mvar": -0.2}
    ratings = Ratings.of(StorageConfig.model_validate(config))
    image = DerImage(DerTable("ess1", ratings, Setpoint(0.0), models), Setpoint(0.0))
    image.show(READING, 1.0)
    return image


def pv(models: tuple[int, ...] = ()) -> DerImage:
    ratings = Ratings.of(PVConfig.model_validate({"bus": "b", "p_rated_mw": 0.5}))
    image = DerImage(DerTable("pv1", ratings, Setpoint(0.5), models), Setpoint(0.5))
    image.show(DeviceReading(0.3, 0.0, 1.01, 1.0, 1.02), 1.0)
    return image


def reader(image: UnitImage, most: int = 125, shift: int = 0) -> Read:
    async def read(address: int, count: int) -> bytes | None:
        if count > most:
            return None
        try:
            return image.read(address - shift, count)
        except RefusalError:
            return None

    return read


@pytest.mark.parametrize("most", [125, 40, 1])
async def test_a_device_is_walked_to_its_end(most: int) -> None:
    image = battery((103, 160, 705, 711))
    found = await discover(reader(image, most), most_registers=max(most, 2))
    if most == 1:  # not even a marker can be read
        assert found is None
        return
    assert found is not None
    assert found.complete
    assert [(m.model_id, m.address) for m in found.layout.models] == [
        (m.model_id, m.address) for m in image.table.layout.models
    ]
    for name, register in found.layout.registers.items():
        assert register == image.registers[name], name


async def test_the_marker_is_looked_for_where_sunspec_allows_it() -> None:
    found = await discover(reader(battery(), shift=10_000))
    assert found is not None
    assert found.layout.base == 50_000
    assert found.layout.registers["701.W"].address == 50_080


async def test_a_device_without_marker_is_none() -> None:
    async def read(address: int, count: int) -> list[int]:
        return [0] * count

    assert await discover(read) is None


def patched(image: DerImage, change: Callable[[bytearray], None]) -> DerImage:
    data = bytearray(image._bytes)
    change(data)
    image._bytes = bytes(data)
    return image


async def test_a_model_that_nobody_knows_is_skipped_by_its_length() -> None:
    image = battery()
    at = 2 * (image.registers["702.ID"].address - 40_000)

    def rename(data: bytearray) -> None:
        data[at : at + 2] = (64_999).to_bytes(2, "big")

    found = await discover(reader(patched(image, rename)))
    assert found is not None
    assert [(m.model_id, m.count) for m in found.unknown] == [(64_999, 52)]
    assert [m.model_id for m in found.layout.models] == [1, 701, 704, 713, 715]
    assert found.complete


async def test_a_device_that_breaks_off_is_told_as_incomplete() -> None:
    image = battery()
    at = 2 * (image.registers["704.L"].address - 40_000)

    def stretch(data: bytearray) -> None:
        data[at : at + 2] = (5_000).to_bytes(2, "big")

    found = await discover(reader(patched(image, stretch)))
    assert found is not None
    assert not found.complete
    assert [m.model_id for m in found.layout.models] == [1, 701, 702]


async def test_scale_factors_are_the_devices_own() -> None:
    image = battery()
    image.publish({"701.W_SF": 3})
    found = await discover(reader(image))
    assert found is not None
    assert found.layout.registers["701.W"].exponent == 3


async def test_what_was_found_can_be_told() -> None:
    found = await discover(reader(battery()))
    assert found is not None
    told = summary(found)
    assert (told["manufacturer"], told["serial"], told["base"]) == ("HERON-HIL", "ess1", 40_000)


async def ready_table(image: DerImage) -> MapTable:
    found = await discover(reader(image))
    assert found is not None
    text = yaml.safe_dump(describe(found, "found"), sort_keys=False)
    return MapTable("x", parse_map(yaml.safe_load(text)), safe=Setpoint(0.1, 0.02))


@pytest.mark.parametrize("image", [battery(), pv()], ids=["battery", "pv"])
async def test_the_ready_map_reads_and_commands_the_device(image: DerImage) -> None:
    table = await ready_table(image)
    words = Words((b.address, image.read(b.address, b.count)) for b in table.telemetry)
    seen, direct = table.decode_reading(words), image.table.decode_reading(image.words)
    for name in ("p_mw", "q_mvar", "soc", "connected"):
        if name in direct:
            assert seen[name] == pytest.approx(direct[name]), name
    assert seen["v_pu"] == pytest.approx(direct["v_pu"], abs=5e-5)
    for write in table.encode_setpoint(Setpoint(0.2, 0.05), 60.0):
        image.write(write.address, write.data)
    assert image.setpoint() == Setpoint(pytest.approx(0.2), pytest.approx(0.05))
    held = Words((b.address, image.read(b.address, b.count)) for b in table.controls)
    assert table.decode_setpoint(held) == Setpoint(pytest.approx(0.2), pytest.approx(0.05))
    image.show(READING, 60.0)
    assert image.setpoint().q_mvar == pytest.approx(0.02)


async def test_an_older_inverter_is_described_by_its_older_models() -> None:
    image = pv((103, 120, 121, 122, 123))
    for placed in image.table.layout.models:
        if placed.model_id >= 700:  # as if it had none of the new ones
            at = 2 * (placed.address - 40_000)

            def rename(data: bytearray, at: int = at, model_id: int = placed.model_id) -> None:
                data[at : at + 2] = (60_000 + model_id).to_bytes(2, "big")

            patched(image, rename)
    table = await ready_table(image)
    words = Words((b.address, image.read(b.address, b.count)) for b in table.telemetry)
    seen = table.decode_reading(words)
    assert seen["p_mw"] == pytest.approx(0.3)
    assert seen["v_pu"] == pytest.approx(1.01, abs=1e-4)
    for write in table.encode_setpoint(Setpoint(0.2), 60.0):
        image.write(write.address, write.data)
    assert image.setpoint().p_mw == pytest.approx(0.2)


async def test_a_table_fits_itself_to_a_device_of_another_maker() -> None:
    """Other addresses, other scale factors, another nominal voltage: the same readings."""
    image = battery((103,))
    image.publish({"701.W_SF": 3, "702.VNom": 400.0, "704.WSet_SF": 1})
    raw = {"701.W": 123_000.0, "704.WSet": 0.0}
    for name, value in raw.items():
        register = image.registers[name]
        exponent = 3 if name == "701.W" else 1
        words = round(value / 10**exponent).to_bytes(2 * register.count, "big", signed=True)
        at = 2 * (register.address - 40_000)
        data = bytearray(image._bytes)
        data[at : at + len(words)] = words
        image._bytes = bytes(data)
    found = await discover(reader(image, shift=10_000))
    assert found is not None
    table = image.table.on(found)
    words_read = Words()
    for block in table.telemetry:
        words_read.add(block.address, image.read(block.address - 10_000, block.count))
    seen = table.decode_reading(words_read)
    assert seen["p_mw"] == pytest.approx(0.123)
    assert seen["v_pu"] == pytest.approx(1.01 * 480 / 400, abs=1e-4)
    assert table.resolution("p_mw") == 1e-3
    write, _ = table.encode_setpoint(Setpoint(0.2))
    assert write.address == image.registers["704.WSetEna"].address + 10_000
    assert table.quantise(Setpoint(0.200004)).p_mw == pytest.approx(0.20000)


async def test_a_table_refuses_a_device_that_lacks_its_models() -> None:
    image = pv()
    at = 2 * (image.registers["704.ID"].address - 40_000)

    def rename(data: bytearray) -> None:
        data[at : at + 2] = (64_999).to_bytes(2, "big")

    found = await discover(reader(patched(image, rename)))
    assert found is not None
    with pytest.raises(ConfigError, match="SunSpec model 704"):
        image.table.on(found)
