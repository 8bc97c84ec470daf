import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron.errors import ConfigError
from heron.powergrid.setups import Profiles, load_dataset, profiles_from, read_setup

ROWS = 366 * 96


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    return read_setup("ieee34_ieee13").profiles


def year(**changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"load": rng.uniform(0.2, 1.0, ROWS), "price": rng.normal(40.0, 30.0, ROWS), **changes}


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    rows = zip(*(c.tolist() for c in columns.values()), strict=True)
    lines = [",".join(columns), *(",".join(f"{v:.6g}" for v in row) for row in rows)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_shipped_year_is_a_leap_year_of_quarter_hours(profiles: Profiles) -> None:
    assert profiles.values.shape == (ROWS, 16)
    assert profiles.n_days == 366
    assert profiles.step_s == 900.0
    shares = np.delete(profiles.values, profiles.index("price"), axis=1)
    assert shares.min() >= 0.0
    weather = [profiles.index(name) for name in ("PV1", "PV3", "PV5", "wind")]
    np.testing.assert_array_equal(profiles.values[:, weather].max(axis=0), 1.0)
    hourly = profiles.values[:, :11].reshape(-1, 4, 11).mean(axis=1)
    np.testing.assert_allclose(hourly.max(axis=0), 1.0, atol=1e-4)


def test_price_has_the_documented_distribution(profiles: Profiles) -> None:
    price = profiles["price"]
    assert price.mean() == pytest.approx(39.5, abs=1.0)
    np.testing.assert_allclose(np.percentile(price, [5, 50, 95]), [12.7, 39.2, 66.2], atol=2.0)
    assert 0.001 < (price < 0).mean() < 0.02
    np.testing.assert_array_equal(price.reshape(-1, 4).std(axis=1), 0.0)


def test_sun_is_gone_at_night(profiles: Profiles) -> None:
    for name in ("PV1", "PV3", "PV5"):
        assert profiles[name].reshape(366, 96)[:, :12].max() == 0.0


def test_mean_over_a_row_is_that_row_and_the_year_wraps(profiles: Profiles) -> None:
    price = profiles["price"]
    assert profiles.mean("price", 900.0 * 500, 900.0) == price[500]
    assert profiles.mean("price", 900.0 * ROWS, 900.0) == price[0]
    assert profiles.mean("price", 900.0 * (ROWS - 1), 1800.0) == pytest.approx(
        (price[-1] + price[0]) / 2
    )


def test_mean_over_no_time_is_the_value_that_holds(profiles: Profiles) -> None:
    assert profiles.mean("H0-H", 899.9, 0.0) == profiles["H0-H"][0]
    assert profiles.mean("H0-H", 900.0, 0.0) == profiles["H0-H"][1]


@settings(max_examples=60, deadline=None)
@given(
    start=st.floats(0.0, 366 * 86_400.0),
    cuts=st.lists(st.floats(1.0, 3600.0), min_size=1, max_size=12),
)
def test_energy_does_not_depend_on_how_time_is_cut(
    profiles: Profiles, start: float, cuts: list[float]
) -> None:
    at, energy = start, np.zeros(len(profiles.names))
    for dt_s in cuts:
        energy += profiles.means(at, dt_s) * dt_s
        at += dt_s
    whole = profiles.means(start, at - start) * (at - start)
    np.testing.assert_allclose(energy, whole, rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize("dt_s", [0.0, 300.0, 900.0, 1000.0, 3600.0])
def test_many_starts_give_what_each_gives_alone(profiles: Profiles, dt_s: float) -> None:
    starts = np.array([0.0, 450.0, 899.0, 900.0 * 700, 366 * 86_400.0 - 100.0])
    together = profiles.means_at(starts, dt_s)
    for start, row in zip(starts.tolist(), together, strict=True):
        np.testing.assert_allclose(row, profiles.means(start, dt_s), rtol=1e-13, atol=1e-13)


def test_day_ahead_holds_the_prices_of_that_plant_day(profiles: Profiles) -> None:
    day = profiles.day_ahead(86_400.0 * 17 + 5000.0)
    assert len(day) == 96
    np.testing.assert_array_equal(day, profiles["price"][17 * 96 : 18 * 96])
    assert profiles.day_ahead(366 * 86_400.0) == profiles.day_ahead(0.0)


def test_test_weeks_are_every_fourth_and_no_day_is_lost(profiles: Profiles) -> None:
    train, test = profiles.train_days, profiles.test_days
    assert sorted([*train, *test]) == list(range(366))
    assert test[:8].tolist() == [14, 15, 16, 17, 18, 19, 20, 42]
    assert 365 in train or 365 in test


def test_values_cannot_be_changed_from_outside(profiles: Profiles) -> None:
    with pytest.raises(ValueError, match="read-only"):
        profiles.means(0.0, 900.0)[0] = 3.0


def test_every_data_error_is_reported_at_once() -> None:
    load = year()["load"]
    load[[5, 9]] = [np.nan, -0.1]
    with pytest.raises(ConfigError) as caught:
        profiles_from(year(load=load, wind=np.ones(7)))
    found = {(p.where, str(p.value)) for p in caught.value.problems}
    assert found == {("load[5]", "nan"), ("load[9]", "-0.1"), ("wind", "7 rows")}


def test_columns_that_are_no_series_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        profiles_from({**year(), "word": "abc", "table": np.ones((ROWS, 2))})  # type: ignore[dict-item]
    assert [p.where for p in caught.value.problems] == ["word", "table"]


def test_columns_of_unequal_years_are_refused() -> None:
    with pytest.raises(ConfigError, match="as long as the others"):
        profiles_from(year(wind=np.ones(365 * 96)))


def test_negative_price_is_no_error() -> None:
    assert profiles_from(year()).mean("price", 0.0, 900.0) == year()["price"][0]


def test_gap_in_time_is_found() -> None:
    time_s = np.arange(ROWS) * 900.0
    time_s[100:] += 900.0
    with pytest.raises(ConfigError, match=r"time_s\[100\].*900 s apart; 1 are not"):
        profiles_from(year(time_s=time_s))


def test_hourly_year_is_taken() -> None:
    hours = np.arange(8760)
    hourly = profiles_from({"time_s": hours * 3600.0, "load": np.ones(8760), "price": hours * 1.0})
    assert hourly.n_days == 365
    assert hourly.mean("price", 1800.0, 3600.0) == pytest.approx(0.5)
    assert len(hourly.day_ahead(0.0)) == 24


def test_gaps_in_the_file_are_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv.gz", year())
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[3] = ",12"
    lines[7] = "0.5,n/a"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(ConfigError) as caught:
        load_dataset(path)
    assert [p.where for p in caught.value.problems] == ["line 4", "line 8"]


def test_file_and_columns_agree(tmp_path: Path) -> None:
    columns = year()
    read = load_dataset(write(tmp_path / "data.csv.gz", columns))
    np.testing.assert_allclose(read["load"], columns["load"], rtol=1e-5)


@pytest.mark.parametrize(
    ("before", "quote", "end"),
    [("\ufeff", "", "\r\n"), ("", '"', "\n"), ("\ufeff", '"', "\r\n"), (" ", "", "\n")],
    ids=["as Excel's CSV UTF-8", "quoted", "both", "a blank before"],
)
def test_a_spreadsheets_form_of_csv_is_the_same_data_set(
    tmp_path: Path, before: str, quote: str, end: str
) -> None:
    plain = write(tmp_path / "data.csv.gz", year())
    lines = gzip.decompress(plain.read_bytes()).decode().splitlines()
    quoted = [",".join(f"{quote}{cell}{quote}" for cell in line.split(",")) for line in lines]
    path = tmp_path / "data.csv"
    path.write_bytes((before + end.join(quoted) + end).encode())
    assert load_dataset(path).names == ("load", "price")
    np.testing.assert_array_equal(load_dataset(path).values, load_dataset(plain).values)


@pytest.mark.parametrize("name", ["data.pkl", "missing.csv", "data.txt", "broken.csv.gz"])
def test_what_is_no_data_set_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not name.startswith("missing"):
        path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ConfigError, match="CSV data set"):
        load_dataset(path)


@pytest.mark.parametrize("text", ["", "\n\n", "load,price\n", "load,price\n\n# none yet\n"])
def test_a_file_without_rows_is_refused_without_a_warning(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match="no rows") as caught:
            load_dataset(path)
    assert str(caught.value).startswith(f"{path}: data = 'no rows': ")
    assert "\n" not in str(caught.value)


def test_damaged_compression_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    damaged = bytearray(gzip.compress(b"load,price\n" + 99 * b"1,2\n"))
    damaged[10] = 0xFF
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="CSV data set"):
        load_dataset(path)


def test_uneven_lines_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("load,price\n1,2\n1,2,3\n")
    with pytest.raises(ConfigError, match=r"line 3 = 3: 2 values"):
        load_dataset(path)
