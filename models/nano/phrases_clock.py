"""Questions for the clock, each with the arguments it asks for; places and times are copied as typed."""

from __future__ import annotations

from words import Source, clock_time, lines, place

NOW = lines("clock_now")

CONVERT = lines("clock_convert")

HERE = lines("clock_here")


def now(s: Source) -> tuple[str, dict[str, object]]:
    """A question for `now`; one without a place is about UTC."""
    if s.chance(0.15):
        return s.pick(HERE), {"timezone": "UTC"}
    where = place(s)
    return s.pick(NOW).format(c=where), {"timezone": where}


def convert_time(s: Source) -> tuple[str, dict[str, object]]:
    """A question for `convert_time`."""
    when, start = clock_time(s), place(s)
    end = next(name for name in iter(lambda: place(s), None) if name != start)
    text = s.pick(CONVERT).format(t=when, a=start, b=end)
    return text, {"time": when, "from_timezone": start, "to_timezone": end}


ALL_FORMS = [*NOW, *HERE, *CONVERT]
