"""Which time zone a place is in.

Names are the IANA names, the cities they are named after, and a table of large cities that no zone is named after.
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
    "Europe/Berlin": ("munich", "hamburg", "frankfurt", "cologne", "stuttgart", "dusseldorf", "leipzig", "dresden"),
    "Europe/Brussels": ("antwerp", "ghent", "bruges"),
    "Europe/Istanbul": ("ankara", "izmir"),
    "Europe/Kyiv": ("lviv", "odesa", "odessa", "kharkiv"),
    "Europe/Lisbon": ("porto",),
    "Europe/London": ("manchester", "birmingham", "edinburgh", "glasgow", "liverpool", "cardiff", "leeds", "bristol",
                      "oxford", "cambridge"),
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
    table: dict[str, str] = {}
    for zone in zones:
        if zone.split("/")[0] in _REGIONS:
            table.setdefault(_key(zone.rsplit("/", 1)[1]), zone)
    for zone, cities in _CITIES.items():
        if zone in zones:
            table.update({_key(city): zone for city in cities})
    table.update({_key(zone): zone for zone in zones})
    table.update(_FIXED)
    return table


@cache
def _zone_names() -> tuple[str, ...]:
    """All IANA names; those in use today come first, so that they win where two share a city."""
    try:
        listed = resources.files("tzdata").joinpath("zones").read_text("utf-8").split()
        used = resources.files("tzdata").joinpath("zoneinfo", "zone.tab").read_text("utf-8").splitlines()
    except (ModuleNotFoundError, OSError):
        return tuple(sorted(available_timezones()))
    current = [line.split("\t")[2] for line in used if line and not line.startswith("#")]
    return tuple(dict.fromkeys([zone for zone in current if zone in set(listed)] + sorted(listed)))


def _key(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()
    return re.sub(r"[\s_.\-]+", " ", plain).strip() if "/" not in plain else plain.strip().replace(" ", "_")
