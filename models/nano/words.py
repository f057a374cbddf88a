"""Words, names, places and numbers to fill phrases with; each list is split into trained and held out."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HELD_PHRASES = 8
HELD_WORDS = 16
"""One in this many phrases, and one in this many words, names, places and longer numbers, is kept from training."""


def is_held(text: str, share: int = HELD_PHRASES) -> bool:
    """Whether `text` is held out: fixed by its bytes alone, so adding texts never moves one across."""
    return zlib.crc32(text.encode()) % share == 0


def lines(name: str) -> list[str]:
    """The lines of `phrases/NAME.txt`: one phrase each, and after the last `|` its expression where there is one."""
    path = Path(__file__).parent / "phrases" / f"{name}.txt"
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]


class Source:
    """A seeded source of choices that keeps to the trained side, or to the held-out side, of every list."""

    def __init__(self, seed: int, *, held: bool = False) -> None:
        self.random = random.Random(seed)
        self.held = held

    def chance(self, share: float) -> bool:
        """True with probability `share`."""
        return self.random.random() < share

    def int(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return self.random.randint(low, high)

    def any(self, items: Sequence[T]) -> T:
        """One of `items`, whichever side it belongs to (openers, units and other closed sets)."""
        return items[int(self.random.random() * len(items))]

    def pick(self, items: Sequence[str]) -> str:
        """One of the phrases `items` from the side this source keeps to."""
        return self._kept(items, HELD_PHRASES)

    def word(self, items: Sequence[str]) -> str:
        """One of the words `items` from the side this source keeps to."""
        return self._kept(items, HELD_WORDS)

    def _kept(self, items: Sequence[str], share: int) -> str:
        for _ in range(500):
            item = self.any(items)
            if is_held(item, share) == self.held:
                return item
        return self.any(items)

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items."""
        return self.random.sample(list(items), count)


NAMES = """Anna Ben Clara David Elena Frank Grace Hugo Irene Jack Karen Leo Maria Noah Olga Peter Quinn Rosa Sam Tina Uma
Victor Wendy Xavier Yara Zoe Alice Bob Carol Dan Eve Nina Omar Priya Raj Sofia Tom Ivan Mia Lucas Emma Liam Ava Ethan
Isla Oscar Ruby Felix Nora Ahmed Fatima Chen Mei Kenji Yuki Lars Ingrid Pablo Lucia Marco Giulia Pierre Claire Stefan
Heidi Tomas Petra Andrej Milena Kofi Amara Diego Carmen Aisha Tariq Hana Jonas Freya Oliver Emily Henry Lily George
Julia Max Sarah Paul Laura Mark Linda Kevin Susan Brian Amy Eric Helen Adam Kate Simon Jane Luke Ella Ryan Chloe Sven
Maya Nikhil Zara Theo Ines Aaron Bella Derek Fiona Gina Harold Joan Kyle Lena Martin Nadia Otto Pam Rita Scott Tracy
John Mary James Anne Robert Ada Grandma Dad Mum Mom""".split()
CITIES = """Paris London Berlin Madrid Rome Vienna Prague Oslo Tokyo Kyoto Seoul Delhi Mumbai Cairo Lima Quito Boston
Chicago Denver Austin Dallas Toronto Montreal Sydney Perth Dublin Lisbon Athens Warsaw Helsinki Stockholm Zurich Geneva
Milan Nairobi Lagos Dakar Hanoi Bangkok Manila Jakarta Singapore Shanghai Beijing Istanbul Moscow Kyiv Budapest
Bucharest Sofia Belgrade Zagreb Copenhagen Amsterdam Brussels Luxembourg Monaco Barcelona Valencia Porto Casablanca
Tunis Algiers Accra Kampala Harare Lusaka Johannesburg Dubai Riyadh Baghdad Tehran Kabul Karachi Lahore Dhaka
Kathmandu Colombo Yangon Taipei Osaka Melbourne Brisbane Adelaide Auckland Wellington Honolulu Anchorage Seattle
Portland Phoenix Houston Miami Atlanta Detroit Philadelphia Washington Vancouver Calgary Winnipeg Halifax Havana Bogota
Caracas Santiago Montevideo Asuncion Brasilia Recife Reykjavik Riga Vilnius Tallinn Minsk Edinburgh Glasgow Manchester
Munich Hamburg Frankfurt Cologne Naples Turin Venice Florence Bangalore Chennai Kolkata Pune Tashkent Almaty Baku
Tbilisi Yerevan Beirut Damascus Amman Jerusalem Doha Muscat Kuwait Bahrain Khartoum""".split() + [
    "New York", "Los Angeles", "San Francisco", "Buenos Aires", "Mexico City", "Sao Paulo", "Rio de Janeiro", "Hong Kong",
    "Kuala Lumpur", "New Delhi", "Cape Town", "Tel Aviv", "Abu Dhabi", "Addis Ababa", "Ho Chi Minh City", "Panama City",
    "Salt Lake City", "Las Vegas", "San Diego", "St. John's", "Santo Domingo", "San Juan", "Guatemala City", "Port Moresby",
    "Dar es Salaam", "New Orleans", "San Jose", "São Paulo", "Zürich", "Kansas City", "Quebec City", "La Paz",
]  # fmt: skip
ZONES = """Europe/Paris Europe/London Europe/Berlin Europe/Madrid Europe/Rome Europe/Vienna Europe/Prague Asia/Tokyo
Asia/Seoul Asia/Kolkata Asia/Shanghai Asia/Singapore Asia/Dubai Asia/Hong_Kong Asia/Jakarta Africa/Cairo Africa/Lagos
Africa/Nairobi Africa/Johannesburg America/New_York America/Chicago America/Denver America/Los_Angeles America/Toronto
America/Sao_Paulo America/Mexico_City America/Bogota America/Lima Australia/Sydney Australia/Perth Pacific/Auckland
Pacific/Honolulu Atlantic/Reykjavik America/Argentina/Buenos_Aires America/Halifax Asia/Kathmandu Asia/Karachi
Asia/Bangkok Europe/Istanbul Europe/Lisbon Etc/UTC UTC GMT UTC GMT""".split()
WORDS = """red blue green dark bright old new small big quiet river stone hill bridge harbor forest winter summer night
morning silver golden iron glass paper cotton apple lemon honey bread milk sugar salt butter cake train engine wheel clock
music dance story letter summary budget review launch design draft final weekly monthly annual team office kitchen garden
roof wall floor plan update notes ideas list trip travel lunch dinner birthday school sport fish bird horse wolf fox bear
eagle storm cloud snow rain wind fire light shadow mirror king queen tower castle village market street north south east
west first second third last secret hidden broken lost happy lazy quick brown clever brave wild tall short long deep open
cold warm fresh sweet sharp soft heavy empty full simple strange modern ancient public private local global digital solar
electric meeting project holiday shopping recipe wedding party invoice contract password printer laptop phone camera
doctor dentist plumber landlord neighbour insurance tax mortgage rent salary bonus flight hotel passport visa museum
concert movie book library course exam homework thesis lecture workshop interview candidate customer supplier warehouse
delivery return refund warranty bicycle car garage tyre oil filter battery charger heater boiler window door key lock
paint brush hammer ladder tomato onion garlic pasta rice soup curry pizza coffee tea wine cheese chicken potato pumpkin
yoga running swimming chess guitar piano violin knitting pottery gardening camping hiking fishing skiing cat dog hamster
vet vaccine medicine allergy diet sleep exercise goals habits journal diary dream quote poem song playlist podcast film
series game puzzle gift present list reading packing moving cleaning repair server backup router network login account
release bug roadmap sprint retro standup agenda minutes decision risk deadline strategy marketing sales finance legal
board investor pitch logo website newsletter survey feedback
airport station platform luggage suitcase backpack tent blanket pillow mattress curtain carpet sofa table chair desk lamp
candle vase picture frame album camera lens tripod battery cable adapter router modem keyboard mouse monitor speaker
headphones microphone guitar drum trumpet flute orchestra choir theatre ticket stage actor director script novel author
chapter poem editor publisher newspaper magazine article headline interview radio television channel season episode
football tennis hockey cricket golf rugby cycling marathon medal trophy coach stadium league referee whistle goal penalty
doctor nurse hospital clinic pharmacy prescription vitamin bandage surgery therapy patient symptom fever cough headache
flour yeast dough oven pan kettle toaster blender fridge freezer spoon fork knife bowl plate glass mug napkin apron
strawberry raspberry blueberry cherry plum pear peach apricot melon grape fig olive spinach lettuce cabbage carrot pepper
cucumber mushroom bean lentil pea corn oats cereal yoghurt cream chocolate biscuit cookie pudding jam vinegar mustard
spider ant bee butterfly frog snake turtle lizard mouse rabbit squirrel deer goat sheep cow pig duck goose owl pigeon
mountain valley lake ocean island beach desert jungle cave waterfall glacier volcano meadow farm barn tractor harvest
teacher student classroom lesson grade diploma university college professor science physics chemistry biology history
geography algebra geometry grammar spelling French Spanish German Latin painting sculpture gallery exhibition
mayor council election vote tax law court judge lawyer contract witness police fire ambulance rescue volunteer charity
christmas easter halloween anniversary graduation retirement reunion picnic barbecue parade fireworks costume balloon
january february friday monday tuesday sunday weekend evening tomorrow yesterday deadline calendar appointment schedule
engineer carpenter electrician painter mechanic chef waiter pilot driver farmer florist hairdresser babysitter tutor
screw nail bolt wrench saw drill ladder bucket rope tape glue brush broom vacuum detergent laundry iron shower towel soap""".split()
FUNCTION_WORDS = "the of and for with in on at to from a my about by".split()
THINGS = """apples books coins pens cards stamps eggs cookies oranges marbles tickets chairs boxes bottles stickers toys
shirts cups plates flowers pencils candles bananas cupcakes sandwiches balloons bricks tiles buttons keys lamps photos
pages stickers seeds trees fish hens sheep cars bikes lemons peaches notebooks magazines letters parcels batteries bulbs
screws nails towels socks hats spoons pizzas muffins donuts sweets chocolates shells stones beads postcards games puzzles
chickens pumpkins carrots potatoes tomatoes loaves crates bags jars cans tins pears mugs coupons badges shells""".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
SMALL_NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "a dozen": 12, "fourteen": 14, "sixteen": 16, "eighteen": 18, "twenty-five": 25, "forty": 40,
    "sixty": 60, "a hundred": 100, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50,
}  # fmt: skip

_KNOWN = [*WORDS, *THINGS, *NAMES, *(name for name in CITIES if name.isalpha())]
_ONSETS = (
    "b c d f g h j k l m n p r s t v w z br cr dr fr gr pr tr st sp sk sl pl bl kl gl fl sh ch th qu".split()
)
_VOWELS = "a e i o u a e i o ai ea io ou ee".split()
_CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "k", "x", "nd", "rt", "st", "ng", "lm", "sk"]


def capital(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def pseudo(s: Source, syllables: int | None = None) -> str:
    """A pronounceable word that means nothing."""
    count = syllables or s.any((1, 2, 2, 2, 3))
    return "".join(s.any(_ONSETS) + s.any(_VOWELS) + s.any(_CODAS) for _ in range(count))


def splice(s: Source) -> str:
    """An unknown word that looks like one: the beginning of one word and the end of another."""
    first, second = s.any(_KNOWN), s.any(_KNOWN)
    return (first[: s.int(2, max(2, len(first) - 1))] + second[s.int(1, max(1, len(second) - 3)) :]).lower()


def word(s: Source) -> str:
    """A common word, or now and then a word nobody has seen."""
    roll = s.random.random()
    if roll < 0.72:
        return s.word(WORDS)
    return splice(s) if roll < 0.82 else pseudo(s)


def person(s: Source) -> str:
    """A first name, sometimes with a surname."""
    first = s.word(NAMES) if s.chance(0.65) else capital(pseudo(s))
    return first if s.chance(0.75) else f"{first} {capital(pseudo(s))}"


def city(s: Source) -> str:
    """A place: mostly a real city, else an invented name."""
    roll = s.random.random()
    if roll < 0.6:
        return s.word(CITIES)
    made = capital(pseudo(s) if s.chance(0.6) else splice(s))
    if roll < 0.8:
        return made
    if roll < 0.9:
        return s.any(("New ", "San ", "Port ", "Saint ", "Los ", "El ", "Fort ", "Lake ")) + made
    # Names of several words: all of them belong to the place, and nothing less.
    last = s.any(("City", "Town", "Beach", "Falls", "Bay", "Lake City", "Springs", capital(pseudo(s))))
    return f"{capital(s.word(WORDS)) if s.chance(0.5) else made} {last}"


def place(s: Source) -> str:
    """What somebody types for a time zone: a city, in any case of letters, or an IANA name."""
    roll = s.random.random()
    if roll < 0.14:
        return s.word(ZONES)
    if roll < 0.17:
        return f"{s.any(('Europe', 'Asia', 'America', 'Africa'))}/{capital(pseudo(s))}"
    name = city(s)
    return name.lower() if s.chance(0.2) else name


def whole(s: Source) -> int:
    """A whole number of one to six digits, small ones oftener."""
    for _ in range(200):
        low, high = s.any(
            ((0, 9), (10, 99), (10, 99), (10, 99), (100, 999), (100, 999), (1000, 9999), (10000, 999999))
        )
        value = s.int(low, high)
        if s.chance(0.1):
            value = (
                int(s.any("123456789") * s.int(1, 5)) if s.chance(0.5) else s.int(1, 20) * 10 ** s.int(1, 4)
            )
        if value < 100 or is_held(str(value), HELD_WORDS) == s.held:
            return value
    return s.int(2, 9)


def decimal(s: Source) -> str:
    """A number with a point, as people type it."""
    roll = s.random.random()
    if roll < 0.4:
        return f"{s.int(0, 99)}.{s.int(1, 9)}"
    if roll < 0.75:
        return f"{s.int(0, 999)}.{s.int(1, 99):02d}"
    if roll < 0.85:
        return "." + s.any(("5", "25", "75", "1", "2", "05", str(s.int(1, 99))))
    return f"{s.int(0, 9)}.{s.int(0, 9999):04d}"


def date(s: Source) -> str:
    """A date in one of the usual spellings."""
    day, month = s.int(1, 28), s.any(MONTHS)
    forms = (
        f"{s.int(2019, 2032)}-{s.int(1, 12):02d}-{day:02d}",
        f"{day} {month}",
        f"{month} {day}",
        s.any(DAYS),
    )
    return s.any(forms)


def clock_time(s: Source) -> str:
    """A time of day as people type it."""
    hour, minute = s.int(0, 23), s.any((0, 0, 15, 30, 45, s.int(0, 59), s.int(0, 59)))
    twelve, half = hour % 12 or 12, "am" if hour < 12 else "pm"
    roll = s.random.random()
    if roll < 0.5:
        return f"{hour:02d}:{minute:02d}"
    if roll < 0.58:
        return f"{hour}:{minute:02d}"
    if roll < 0.78:
        return f"{twelve}{s.any((' ', ' ', ''))}{s.any((half, half, half.upper()))}"
    if roll < 0.94:
        return f"{twelve}:{minute:02d}{s.any((' ', ' ', ''))}{s.any((half, half, half.upper()))}"
    return s.any(("noon", "midnight", f"{twelve} {half[0]}.m.", f"{twelve} o'clock"))


def code(s: Source) -> str:
    """A reference such as a booking code."""
    letters = "".join(s.any("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(s.int(1, 3)))
    if s.chance(0.6):
        return letters + s.any(("-", "")) + str(s.int(10, 9999))
    return "".join(s.any("abcdef0123456789") for _ in range(s.int(4, 8)))


def title(s: Source) -> str:
    """The title of a note."""
    roll = s.random.random()
    count = s.any((1, 2, 2, 2, 3, 3, 4))
    words = [word(s) for _ in range(count)]
    if roll < 0.6:
        return " ".join(capital(item) for item in words)
    if roll < 0.7:
        return " ".join(words)
    if roll < 0.78:
        return capital(" ".join(words))
    if roll < 0.86:
        joint = s.any((" of ", " for ", " with ", " and ", " in ", " to "))
        return capital(word(s)) + joint + s.any((capital(word(s)), person(s), city(s)))
    if roll < 0.92:
        return (
            capital(word(s))
            + " "
            + s.any((str(s.int(1, 30)), str(s.int(2019, 2032)), s.any(MONTHS), s.any(DAYS)))
        )
    if roll < 0.96:
        return s.any(("The ", "A ", "My ", "About ", "How to ", "In ", "To ")) + " ".join(words)
    return person(s) + s.any(("'s ", "'s ", " and ")) + capital(word(s))


def topic(s: Source) -> str:
    """What somebody looks for in notes: one to four words."""
    roll = s.random.random()
    if roll < 0.3:
        return word(s)
    if roll < 0.55:
        return f"{word(s)} {word(s)}"
    if roll < 0.68:
        return s.any(("the ", "the ", "my ", "a ", "our ", "next ", "last ")) + " ".join(
            word(s) for _ in range(s.int(1, 2))
        )
    if roll < 0.74:
        return (
            word(s)
            + s.any((" in ", " for ", " with ", " and ", " of ", " from ", " to "))
            + s.any((word(s), city(s)))
        )
    if roll < 0.82:
        return person(s)
    if roll < 0.87:
        return city(s)
    if roll < 0.91:
        return date(s)
    if roll < 0.94:
        return code(s)
    if roll < 0.965:
        a, b = s.int(2, 99), whole(s)
        return s.any(
            (
                f"{a}% of {b}",
                f"{a} * {b}",
                f"{b} + {a}",
                str(b),
                f"{a} times {b}",
                f"{a} percent of {b}",
                decimal(s),
            )
        )
    return " ".join(word(s) for _ in range(s.int(3, 4)))
