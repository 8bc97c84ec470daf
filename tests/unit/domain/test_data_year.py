"""Which instant of the data year stands for a moment of the calendar."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.powergrid.data_year import DAY_S, DAYS, FIRST_WEEKDAY, WEEK, data_year_s, step_of_day

moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31))


@given(moments)
def test_time_of_day_and_day_of_the_week_are_kept_and_the_date_nearly(moment: datetime) -> None:
    time_s = data_year_s(moment)
    assert 0.0 <= time_s < DAYS * DAY_S
    day, of_day_s = divmod(time_s, DAY_S)
    since_midnight = moment - datetime(moment.year, moment.month, moment.day)
    assert of_day_s == pytest.approx(since_midnight.total_seconds(), abs=1e-3)
    assert (day + FIRST_WEEKDAY) % WEEK == moment.weekday()
    date = moment.timetuple().tm_yday - 1
    assert abs(day - date) <= (3 if WEEK <= date < DAYS - WEEK else 6)


def test_in_the_data_year_itself_it_is_the_time_since_its_start() -> None:
    start = datetime(2016, 1, 1)
    for days in (0, 59, 200, 365):
        assert data_year_s(start + timedelta(days=days, hours=7)) == days * DAY_S + 7 * 3600.0


def test_the_step_of_a_day_does_not_depend_on_what_was_asked_before() -> None:
    asked = [(0.0, 96), (900.0, 96), (900.0, 24), (900.0, 96), (DAY_S + 899.0, 96), (0.0, 96)]
    assert [step_of_day(*question) for question in asked] == [0, 1, 0, 1, 0, 0]
