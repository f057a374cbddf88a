from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_servers import ServersError
from agentmesh_servers.clock.cities import find_zone
from agentmesh_servers.clock.moments import convert, moment, read_time


def _at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]  # year, month, day and so on


def test_now_names_date_time_weekday_and_zone() -> None:
    here = moment("Tokyo", clock=lambda: _at(2026, 11, 23, 23, 17, 5))
    assert here.text == "2026-11-24 08:17, Tuesday (Asia/Tokyo)"
    assert (here.date, here.time, here.weekday, here.zone) == ("2026-11-24", "08:17", "Tuesday", "Asia/Tokyo")
    assert here.iso == "2026-11-24T08:17:05+09:00"


@pytest.mark.parametrize(
    ("place", "zone"),
    [
        ("Europe/Paris", "Europe/Paris"),
        ("europe/paris", "Europe/Paris"),
        ("PARIS", "Europe/Paris"),
        ("Paris, France", "Europe/Paris"),
        ("new york", "America/New_York"),
        ("New_York", "America/New_York"),
        ("New York City", "America/New_York"),
        ("São Paulo", "America/Sao_Paulo"),
        ("sao-paulo", "America/Sao_Paulo"),
        ("Buenos Aires", "America/Argentina/Buenos_Aires"),
        ("Mumbai", "Asia/Kolkata"),
        ("Beijing", "Asia/Shanghai"),
        ("San Francisco", "America/Los_Angeles"),
        ("St. Petersburg", "Europe/Moscow"),
        ("Zürich", "Europe/Zurich"),
        ("France", "Europe/Paris"),
        ("germany", "Europe/Berlin"),
        ("UK", "Europe/London"),
        ("Singapore", "Asia/Singapore"),
        ("utc", "UTC"),
        ("GMT", "GMT"),
        ("etc/gmt+3", "Etc/GMT+3"),
    ],
)
def test_a_place_is_found_whatever_its_spelling(place: str, zone: str) -> None:
    assert find_zone(place).key == zone


@pytest.mark.parametrize(
    "place", ["", "Atlantis Prime", "../../etc/passwd", "/etc/localtime", "UTC+27", "x" * 10_000, "\x00"]
)
def test_an_unknown_place_is_an_error_of_one_short_line(place: str) -> None:
    with pytest.raises(ServersError) as caught:
        find_zone(place)
    assert caught.value.reason == "not_found"
    assert len(caught.value.message) < 250


def test_a_country_of_several_times_is_not_guessed() -> None:
    for country in ("United States", "Australia", "Russia", "Brazil", "China"):
        with pytest.raises(ServersError):
            find_zone(country)


def test_a_misspelt_place_gets_the_nearest_names() -> None:
    with pytest.raises(ServersError, match=r"did you mean .*Paris"):
        find_zone("Pariss")
    with pytest.raises(ServersError, match=r"did you mean .*America/New_York"):
        find_zone("America/New_Yrok")


@pytest.mark.parametrize(
    ("time", "source", "target", "text"),
    [
        ("13:30", "Paris", "Tokyo", "21:30 (Asia/Tokyo)"),
        ("18:30", "Paris", "Tokyo", "02:30 (Asia/Tokyo, next day)"),
        ("02:00", "Tokyo", "New York", "12:00 (America/New_York, previous day)"),
        ("2pm", "New York", "London", "19:00 (Europe/London)"),
        ("2:30 p.m.", "New York", "London", "19:30 (Europe/London)"),
        ("12 am", "UTC", "UTC", "00:00 (UTC)"),
        ("12 pm", "UTC", "UTC", "12:00 (UTC)"),
        ("noon", "UTC", "Kolkata", "17:30 (Asia/Kolkata)"),
        ("14.30", "UTC", "Kathmandu", "20:15 (Asia/Kathmandu)"),
        ("00:30", "Kiritimati", "Pago Pago", "23:30 (Pacific/Pago_Pago, 2 days earlier)"),
        ("23:30", "Pago Pago", "Kiritimati", "00:30 (Pacific/Kiritimati, 2 days later)"),
    ],
)
def test_a_time_is_converted(time: str, source: str, target: str, text: str) -> None:
    assert convert(time, source, target, clock=lambda: _at(2026, 11, 23, 12)).text == text


@pytest.mark.parametrize(
    "text", ["25:00", "14:60", "13 pm", "0 am", "5", "", "half past two", "-1:00", "14:3", "9" * 999]
)
def test_a_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ServersError, match="not a time of day") as caught:
        read_time(text)
    assert caught.value.reason == "bad_input"


def test_a_time_that_the_clocks_skip_is_refused_with_the_reason() -> None:
    spring = _at(2026, 3, 8, 12)
    with pytest.raises(ServersError, match="forward over it by 60 minutes") as caught:
        convert("02:30", "New York", "UTC", clock=lambda: spring)
    assert caught.value.reason == "undefined"
    assert convert("01:59", "New York", "UTC", clock=lambda: spring).text == "06:59 (UTC)"
    assert convert("03:00", "New York", "UTC", clock=lambda: spring).text == "07:00 (UTC)"


def test_of_a_time_that_comes_twice_the_first_is_meant_and_it_says_so() -> None:
    autumn = convert("01:30", "New York", "UTC", clock=lambda: _at(2026, 11, 1, 12))
    assert autumn.time == "05:30"
    assert "twice" in autumn.remark
    assert autumn.text.endswith(autumn.remark)


def test_the_date_is_todays_in_the_place_converted_from() -> None:
    # 23:00 UTC on 24 October is already the 25th in Paris, the day its summer time ends.
    assert convert("12:00", "Paris", "UTC", clock=lambda: _at(2026, 10, 24, 23)).text == "11:00 (UTC)"
    assert convert("12:00", "Paris", "UTC", clock=lambda: _at(2026, 10, 24, 20)).text == "10:00 (UTC)"


@settings(deadline=None)
@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)),
    st.sampled_from(["Paris", "Lord Howe", "Apia", "St Johns"]),
)
def test_any_moment_has_a_wording(when: datetime, place: str) -> None:
    here = moment(place, clock=lambda: when.replace(tzinfo=UTC))
    assert datetime.fromisoformat(here.iso) == when.replace(tzinfo=UTC, microsecond=0)
