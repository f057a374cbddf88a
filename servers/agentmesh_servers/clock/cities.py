"""Which time zone a place is in.

Names are the IANA names, the cities they are named after, a table of large cities that no zone is named after, and the
countries that keep one time throughout.
A name is only ever looked up, never made into a path.
"""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from agentmesh_servers.errors import ServersError

_REGIONS: Final = frozenset(
    {
        "Africa",
        "America",
        "Antarctica",
        "Arctic",
        "Asia",
        "Atlantic",
        "Australia",
        "Europe",
        "Indian",
        "Pacific",
    }
)
# Large cities and common names that are no zone's last component, by the zone they keep time with.
_CITIES: Final = {
    "Africa/Abidjan": ("yamoussoukro",),
    "Africa/Cairo": ("alexandria", "giza"),
    "Africa/Casablanca": ("rabat", "marrakesh", "marrakech", "fez", "tangier"),
    "Africa/Johannesburg": ("cape town", "durban", "pretoria", "soweto"),
    "Africa/Lagos": ("abuja", "kano", "ibadan"),
    "Africa/Nairobi": ("mombasa",),
    "America/Argentina/Buenos_Aires": ("buenos aires", "rosario"),
    "America/Bogota": ("medellin", "cali"),
    "America/Chicago": ("houston", "dallas", "austin", "san antonio", "new orleans", "minneapolis", "memphis",
                        "nashville", "milwaukee", "kansas city", "st louis", "fort worth", "oklahoma city"),
    "America/Denver": ("salt lake city", "albuquerque", "el paso", "colorado springs"),
    "America/Edmonton": ("calgary",),
    "America/Guayaquil": ("quito",),
    "America/Los_Angeles": ("san francisco", "seattle", "san diego", "las vegas", "portland", "san jose california",
                            "sacramento", "oakland", "la", "silicon valley"),
    "America/Mexico_City": ("guadalajara", "puebla"),
    "America/New_York": ("nyc", "new york city", "boston", "washington", "washington dc", "philadelphia", "miami",
                         "atlanta", "baltimore", "charlotte", "orlando", "pittsburgh", "cleveland", "tampa",
                         "brooklyn", "manhattan"),
    "America/Phoenix": ("tucson", "mesa"),
    "America/Sao_Paulo": ("rio de janeiro", "rio", "brasilia", "belo horizonte", "curitiba", "porto alegre"),
    "America/Toronto": ("ottawa", "quebec city", "hamilton", "mississauga"),
    "Asia/Ho_Chi_Minh": ("hanoi", "da nang", "ho chi minh city"),
    "Asia/Karachi": ("lahore", "islamabad", "faisalabad", "rawalpindi"),
    "Asia/Kolkata": ("mumbai", "bombay", "delhi", "new delhi", "bangalore", "bengaluru", "chennai", "madras",
                     "hyderabad", "pune", "ahmedabad", "jaipur", "lucknow", "surat"),
    "Asia/Qatar": ("doha",),
    "Asia/Riyadh": ("jeddah", "mecca", "medina", "dammam"),
    "Asia/Seoul": ("busan", "incheon", "daegu"),
    "Asia/Shanghai": ("beijing", "peking", "guangzhou", "shenzhen", "chengdu", "wuhan", "tianjin", "nanjing", "xi'an",
                      "hangzhou", "suzhou"),
    "Asia/Tokyo": ("osaka", "kyoto", "yokohama", "nagoya", "sapporo", "kobe", "fukuoka", "hiroshima"),
    "Asia/Dubai": ("abu dhabi", "sharjah"),
    "Asia/Jerusalem": ("haifa", "tel aviv"),
    "Asia/Jakarta": ("bandung", "surabaya"),
    "Asia/Yangon": ("mandalay",),
    "Australia/Melbourne": ("geelong",),
    "Australia/Sydney": ("canberra", "newcastle"),
    "Australia/Brisbane": ("gold coast",),
    "Europe/Amsterdam": ("rotterdam", "the hague", "utrecht", "eindhoven"),
    "Europe/Berlin": ("munich", "hamburg", "frankfurt", "cologne", "germany", "stuttgart", "dusseldorf", "leipzig", "dresden"),
    "Europe/Brussels": ("antwerp", "ghent", "bruges"),
    "Europe/Istanbul": ("ankara", "izmir"),
    "Europe/Kyiv": ("lviv", "odesa", "odessa", "kharkiv"),
    "Europe/Lisbon": ("porto",),
    "Europe/London": ("manchester", "birmingham", "edinburgh", "glasgow", "liverpool", "cardiff", "leeds", "bristol",
                      "oxford", "cambridge", "uk", "united kingdom", "great britain", "england", "scotland",
                      "wales"),
    "Europe/Madrid": ("barcelona", "valencia", "seville", "bilbao", "malaga"),
    "Europe/Moscow": ("saint petersburg", "st petersburg", "sochi"),
    "Europe/Paris": ("lyon", "marseille", "nice", "toulouse", "bordeaux", "lille", "strasbourg"),
    "Europe/Prague": ("brno",),
    "Europe/Rome": ("milan", "naples", "turin", "florence", "venice", "bologna"),
    "Europe/Stockholm": ("gothenburg", "malmo"),
    "Europe/Warsaw": ("krakow", "gdansk", "wroclaw", "poznan", "lodz"),
    "Europe/Zurich": ("geneva", "basel", "bern", "lausanne"),
    "Pacific/Auckland": ("wellington", "christchurch"),
    "Pacific/Honolulu": ("hawaii",),
}  # fmt: skip
_FIXED: Final = {"utc": "UTC", "gmt": "GMT", "z": "UTC", "zulu": "UTC", "coordinated universal time": "UTC"}


def find_zone(place: str) -> ZoneInfo:
    """The time zone of an IANA name or a city, whatever its case, accents, spaces or underscores.

    Raises:
        ServersError: `not_found`, with the closest names that are known.
    """
    known = _table()
    key = _key(place)
    name = known.get(key) or known.get(_key(place.split(",")[0]))
    if name is None:
        raise ServersError("not_found", _advice(place, key))
    return ZoneInfo(name)


def _advice(place: str, key: str) -> str:
    near = [_spelled(match) for match in get_close_matches(key[:60], _table(), n=3, cutoff=0.7)]
    shown = place if len(place) <= 60 else place[:57] + "..."
    guess = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "give an IANA name such as Europe/Paris, or a large city"
    )
    return f"no time zone or city is called {shown!r}: {guess}"


def _spelled(key: str) -> str:
    zone = _table()[key]
    if _key(zone) == key:
        return zone
    return " ".join(word.capitalize() for word in key.split(" "))


@cache
def _table() -> dict[str, str]:
    """Every name that is understood, in its plain form, with its zone."""
    zones = _zone_names()
    # From the least to the most telling: old names such as Singapore give way to the zone of the city.
    table = {_key(zone): zone for zone in zones if "/" not in zone}
    table.update(_countries())
    for zone in reversed(zones):
        if zone.split("/")[0] in _REGIONS:
            table[_key(zone.rsplit("/", 1)[1])] = zone
    for zone, named in _CITIES.items():
        if zone in zones:
            table.update({_key(city): zone for city in named})
    table.update({_key(zone): zone for zone in zones if "/" in zone})
    table.update(_FIXED)
    return table


@cache
def _zone_names() -> tuple[str, ...]:
    """All IANA names; those in use today come first, so that they win where two share a city."""
    listed = _tzdata("zones")
    if not listed:
        return tuple(sorted(available_timezones()))
    current = [zone for _, zone in _country_zones() if zone in set(listed)]
    return tuple(dict.fromkeys([*current, *sorted(listed)]))


def _countries() -> dict[str, str]:
    """Countries that keep one time throughout, by their plain names."""
    times: dict[str, set[str]] = {}
    for line in _tzdata("zoneinfo", "zone1970.tab"):
        codes, _, zone = line.split("\t")[:3]
        for code in codes.split(","):
            times.setdefault(code, set()).add(zone)
    first: dict[str, str] = {}
    for code, zone in _country_zones():
        first.setdefault(code, zone)
    names = dict(line.split("\t")[:2] for line in _tzdata("zoneinfo", "iso3166.tab"))
    return {
        _key(names[code]): zone for code, zone in first.items() if code in names and len(times[code]) == 1
    }


def _country_zones() -> list[tuple[str, str]]:
    """Country codes and their zones, the most populous zone of a country first."""
    rows = [line.split("\t") for line in _tzdata("zoneinfo", "zone.tab")]
    return [(row[0], row[2]) for row in rows]


def _tzdata(*path: str) -> list[str]:
    """The lines of a file of the tzdata package without comments; none where it is not installed."""
    try:
        text = resources.files("tzdata").joinpath(*path).read_text("utf-8")
    except (ModuleNotFoundError, OSError):
        return []
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _key(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()
    return re.sub(r"[\s_.\-]+", " ", plain).strip() if "/" not in plain else plain.strip().replace(" ", "_")
