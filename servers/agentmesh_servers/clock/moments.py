"""What the clock shows in a place, and what it shows there when it shows something here.

Pure but for the clock, which is a parameter: a function that tells the time now as an aware datetime.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from agentmesh_servers.clock.cities import find_zone
from agentmesh_servers.errors import ServersError

Clock: TypeAlias = Callable[[], datetime]

# Not strftime: its names follow the locale of the process.
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAYS: Final = {-2: "2 days earlier", -1: "previous day", 0: "same day", 1: "next day", 2: "2 days later"}
_TIME: Final = re.compile(
    r"(?P<hour>[0-9]{1,2})(?:[:.h](?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?)?\s*(?P<half>[ap]\.?m\.?)?",
    re.IGNORECASE,
)
_NAMED: Final = {"noon": time(12), "midday": time(12), "midnight": time(0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The date and time in one zone."""

    text: str
    zone: str
    date: str
    time: str
    weekday: str
    iso: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A time of day in another zone, on today's date in the first."""

    text: str
    time: str
    zone: str
    day: str
    from_time: str
    from_zone: str
    remark: str


def system_clock() -> datetime:
    """The time now, by the clock of this machine."""
    return datetime.now(UTC)


def moment(place: str, *, clock: Clock = system_clock) -> Moment:
    """The date and time in a place now. Raises `ServersError` `not_found` for a place that is not known."""
    zone = find_zone(place)
    there = clock().astimezone(zone)
    weekday = _WEEKDAYS[there.weekday()]
    return Moment(
        text=f"{there:%Y-%m-%d %H:%M}, {weekday} ({zone.key})",
        zone=zone.key,
        date=f"{there:%Y-%m-%d}",
        time=f"{there:%H:%M}",
        weekday=weekday,
        iso=there.isoformat(timespec="seconds"),
    )


def convert(text: str, from_place: str, to_place: str, *, clock: Clock = system_clock) -> Converted:
    """What the clock in one place shows when in the other it shows the given time, today.

    Where the clocks are set back over that time, the first of the two is meant, and the remark says so.

    Raises:
        ServersError: `bad_input` for a text that is no time of day, `not_found` for an unknown place, `undefined` for
            a time that the clocks skip today.
    """
    of_day = read_time(text)
    source, target = find_zone(from_place), find_zone(to_place)
    today = clock().astimezone(source).date()
    here = datetime.combine(today, of_day, tzinfo=source)
    _refuse_skipped(here, source)
    there = here.astimezone(UTC).astimezone(target)
    days = (there.date() - today).days
    remark = ""
    if here.utcoffset() != here.replace(fold=1).utcoffset():
        remark = f"the clocks in {source.key} show {_shown(here)} twice on {today}; this is the first"
    place = target.key if days == 0 else f"{target.key}, {_DAYS[days]}"
    return Converted(
        text=f"{_shown(there)} ({place})" + (f"; {remark}" if remark else ""),
        time=_shown(there),
        zone=target.key,
        day=_DAYS[days],
        from_time=_shown(here),
        from_zone=source.key,
        remark=remark,
    )


def read_time(text: str) -> time:
    """The time of day that a text names: 14:30, 14.30, 2:30 pm, 2pm, noon."""
    plain = text.strip().lower()
    if plain in _NAMED:
        return _NAMED[plain]
    match = _TIME.fullmatch(plain)
    if match is None or (match["minute"] is None and match["half"] is None):
        raise ServersError("bad_input", f"{text[:40]!r} is not a time of day: write it like 14:30 or 2:30 pm")
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    if match["half"]:
        if not 1 <= hour <= 12:
            raise ServersError(
                "bad_input", f"{text[:40]!r} is not a time of day: hours with am or pm go from 1 to 12"
            )
        hour = hour % 12 + (12 if match["half"][0] == "p" else 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ServersError("bad_input", f"{text[:40]!r} is not a time of day: it ends at 23:59")
    return time(hour, minute, second)


def _refuse_skipped(here: datetime, zone: ZoneInfo) -> None:
    """A time in the hour that the clocks leap over comes back changed from a round trip through UTC."""
    back = here.astimezone(UTC).astimezone(zone)
    if back.replace(tzinfo=None) != here.replace(tzinfo=None):
        before, after = here.utcoffset(), here.replace(fold=1).utcoffset()
        skipped = abs((after or timedelta()) - (before or timedelta()))
        raise ServersError(
            "undefined",
            f"{_shown(here)} does not exist in {zone.key} on {here.date()}: the clocks go forward over it "
            f"by {int(skipped.total_seconds()) // 60} minutes; ask for a time before or after",
        )


def _shown(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
