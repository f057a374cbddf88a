"""Makes training conversations: the bundled tools, peers, invented tools, refusals and small talk, in one mix."""

from __future__ import annotations

from collections.abc import Callable

import arithmetic
import phrases_calculator
import phrases_clock
import phrases_generic
import phrases_notes
import phrases_peers
import phrases_problems
import phrases_units
from conversations import Turn
from primer import primer
from schemas import PRODUCT, SERVERS, Schema, ask_tool, call_text, dump, result_text, system_text
from words import DAYS, NAMES, ZONES, Source, capital, lines, pseudo, title, whole

NO_TOOL = "I have no tool for that."
NOTHING = "I have nothing to add."
SMALL_TALK = (
    ("hi|hello|hey|hey there|good morning|good evening|hi there|hello nano|good afternoon", "Hello! How can I help?"),
    ("thanks|thank you|thanks a lot|thank you very much|great, thanks|cheers|thx|perfect, thank you", "You are welcome."),
    ("who are you?|what are you?|are you human?|what is your name?|are you a robot?", "I am nano, a small model that calls tools."),
    ("what can you do?|help|how can you help me?|what do you do?", "I can call the tools you give me and say what they answer."),
    ("bye|goodbye|see you|see you later|good night", "Goodbye!"),
)  # fmt: skip


def calculation(s: Source) -> tuple[str, dict[str, object]]:
    """A question for `evaluate`: a quarter of them composed word problems."""
    if s.chance(0.25):
        text, expression = phrases_problems.problem(s)
        return text, {"expression": expression}
    return phrases_calculator.question(s)


DOMAIN_OF = {
    "evaluate": "calc", "convert": "units", "now": "clock", "convert_time": "clock", "search_notes": "notes",
    "read_note": "notes",
}  # fmt: skip
TOOLS_OF = {
    "calc": ["evaluate"],
    "units": ["convert"],
    "clock": ["now", "convert_time"],
    "notes": ["search_notes", "read_note"],
}
ASK: dict[str, Callable[[Source], tuple[str, dict[str, object]]]] = {
    "evaluate": calculation,
    "convert": phrases_units.question,
    "now": phrases_clock.now,
    "convert_time": phrases_clock.convert_time,
    "search_notes": phrases_notes.search,
    "read_note": phrases_notes.read,
}
WEIGHTS = (
    ["evaluate"] * 9
    + ["convert"] * 4
    + ["now"] * 3
    + ["convert_time"] * 4
    + ["search_notes"] * 5
    + ["read_note"] * 5
)
ROLES = {kind: lines(f"roles_{kind}") for kind in ("calc", "units", "clock", "notes", "any", "peers")}
ERRORS = lines("errors")
_FULL_UNIT = {
    "km": "kilometers", "m": "meters", "cm": "centimeters", "mi": "miles", "ft": "feet", "in": "inches", "kg": "kilograms",
    "g": "grams", "lb": "pounds", "oz": "ounces", "l": "liters", "ml": "milliliters", "c": "degrees Celsius", "mg": "milligrams",
    "f": "degrees Fahrenheit", "celsius": "degrees Celsius", "fahrenheit": "degrees Fahrenheit", "mph": "miles per hour",
    "km/h": "kilometers per hour", "°c": "degrees Celsius", "°f": "degrees Fahrenheit", "gb": "gigabytes", "mb": "megabytes",
    "h": "hours", "min": "minutes", "s": "seconds", "k": "kelvin", "metres": "meters", "kilometres": "kilometers", "lbs": "pounds",
}  # fmt: skip


def _zone(s: Source) -> str:
    return s.any(ZONES) if s.chance(0.85) else f"Asia/{capital(pseudo(s))}"


def _clock(s: Source) -> str:
    return f"{s.int(0, 23):02d}:{s.int(0, 59):02d}"


def _converted(s: Source, unit: str) -> str:
    whole_part = s.any((s.int(0, 9), s.int(10, 999), s.int(1000, 99999)))
    digits = s.any(
        (
            "",
            "",
            f".{s.int(1, 9)}",
            f".{s.int(1, 99):02d}",
            f".{s.int(1, 99999):05d}",
            f".{s.int(1, 999999):06d}",
        )
    )
    number = f"{whole_part}{digits}"
    if s.chance(0.1):
        repeated = s.any("12345678")
        number = f"{whole_part}.{repeated * s.int(4, 8)}{s.any((repeated, chr(ord(repeated) + 1)))}"
    if s.chance(0.05):
        number = f"{s.int(1, 9)}/{s.int(2, 9)} (about {number})"
    name = _FULL_UNIT.get(unit.lower(), unit) if s.chance(0.7) else unit
    return f"{'-' if s.chance(0.05) else ''}{number} {name}"


def answer(s: Source, name: str, arguments: dict[str, object]) -> tuple[str, str]:
    """What the bundled tool `name` answers, and nano's sentence for it."""
    if name == "evaluate":
        try:
            text = arithmetic.result_text(str(arguments["expression"]))
        except arithmetic.NoResult:
            text = str(whole(s)) * s.int(1, 3)
        return text, f"The result is {text}."
    if name == "convert":
        text = _converted(s, str(arguments["to_unit"]))
        return text, f"{dump(arguments['value'])} {arguments['from_unit']} is {text}."
    if name == "now":
        day = f"{s.int(2024, 2032)}-{s.int(1, 12):02d}-{s.int(1, 28):02d}"
        text = f"{day} {_clock(s)}, {s.any(DAYS)} ({_zone(s)})"
        return text, f"It is {text}."
    if name == "convert_time":
        text = f"{_clock(s)} ({_zone(s)}{s.any(('', '', '', ', next day', ', previous day'))})"
        return text, f"It is {text}."
    if name == "search_notes":
        text = phrases_notes.listing(s, [title(s) for _ in range(s.any((0, 1, 1, 2, 2, 3, 4)))])
        return text, phrases_notes.listing_answer(text)
    text = phrases_notes.note_text(s)
    return text, f"The note says: {text}"


def error(s: Source) -> tuple[str, str]:
    """A failed call's result and nano's sentence for it."""
    text = s.pick(ERRORS).format(w=pseudo(s), x=pseudo(s), t=title(s), u=title(s), n=whole(s))
    text = capital(text) if s.chance(0.4) else text
    text += s.any((".", ""))
    return f"Error: {text}", f"That did not work: {text}"


def role(s: Source, kinds: list[str]) -> str:
    """The sentence or two that stand before the tools."""
    roll = s.random.random()
    if roll < 0.08:
        return "You are a helpful assistant."
    name = s.any(
        (
            lambda: s.any(NAMES).lower(),
            lambda: s.any(phrases_peers.NEUTRAL),
            lambda: pseudo(s, 2),
            lambda: s.any(
                ("front", "math", "notes", "ada", "ben", "desk", "clerk", "clock", "units", "calc", "nano")
            ),
        )
    )()
    sentences = [s.any(ROLES[s.any(kinds)])]
    if s.chance(0.3):
        sentences.append(s.any(ROLES[s.any([*kinds, "any"])]))
    return f"You are {name}. " + " ".join(dict.fromkeys(sentences))


class Builder:
    """A conversation under construction."""

    def __init__(
        self, s: Source, intro: str, tools: list[Schema], prefix: dict[str, str] | None = None
    ) -> None:
        self.s, self.prefix = s, prefix or {}
        s.random.shuffle(tools)
        self.turns = [Turn("system", system_text(intro, tools))]

    def say(self, question: str, reply: str, label: str) -> None:
        """A question that is answered without a call."""
        self.turns += [Turn("user", question), Turn("assistant", reply, label)]

    def call(self, name: str, arguments: dict[str, object], result: str, label: str) -> None:
        """One call and its result."""
        name = self.prefix.get(name, "") + name
        self.turns.append(Turn("assistant", call_text(name, arguments), f"{label}/call"))
        self.turns.append(Turn("user", result_text(result)))

    def part(self, start: int) -> None:
        """Makes what was added from `start` on a conversation of its own, mostly ending with nano's first turn.

        Nano learns most from its first turn, and the long list of tools is then read once for many of them.
        """
        self.turns[start] = self.turns[start]._replace(fresh=True)
        if self.s.chance(0.8):
            del self.turns[start + 2 :]

    def user(self, question: str) -> None:
        """What the user says, with the small variations of real typing and, now and then, what peers said after it."""
        text = decorated(self.s, question)
        if len(self.turns) == 1 and self.s.chance(0.04):
            speaker = self.s.any(
                (self.s.any(phrases_peers.NEUTRAL), pseudo(self.s), self.s.word(NAMES).lower())
            )
            text += f"\n{speaker}: {peer_reply(self.s, self.s.any(list(TOOLS_OF)))[0]}"
        self.turns.append(Turn("user", text))

    def product(self, name: str, offered: list[str]) -> None:
        """A question for a bundled tool, its call or calls, and the answer."""
        s = self.s
        if name in ("search_notes", "read_note") and "search_notes" in offered and s.chance(0.3):
            self.chain(offered)
            return
        question, arguments = ASK[name](s)
        result, reply = error(s) if s.chance(0.05) else answer(s, name, arguments)
        self.user(question)
        self.call(name, arguments, result, name)
        self.turns.append(
            Turn("assistant", reply, "error" if result.startswith("Error") else f"{name}/answer")
        )

    def chain(self, offered: list[str]) -> None:
        """A question that takes a search and then a reading."""
        s = self.s
        question, arguments = phrases_notes.chain(s)
        titles = [title(s) for _ in range(s.any((0, 1, 1, 1, 1, 2, 2, 3)))]
        listed = phrases_notes.listing(s, titles)
        self.user(question)
        self.call("search_notes", arguments, listed, "chain")
        reply = phrases_notes.listing_answer(listed)
        if titles and "read_note" in offered:
            text = phrases_notes.note_text(s)
            self.call("read_note", {"title": titles[0]}, text, "chain2")
            reply = f"The note says: {text}"
        self.turns.append(Turn("assistant", reply, "chain/answer"))

    def refuse(self, offered: list[str]) -> None:
        """A question no offered tool fits."""
        s = self.s
        others = [
            name
            for name in PRODUCT
            if name not in offered and DOMAIN_OF[name] not in {DOMAIN_OF.get(o) for o in offered}
        ]
        question = ASK[s.any(others)](s)[0] if others and s.chance(0.45) else phrases_peers.hopeless(s)
        self.say(question, NO_TOOL, "refuse")

    def small_talk(self) -> None:
        """A greeting, thanks or the like."""
        prompts, reply = self.s.any(SMALL_TALK)
        prompt = self.s.any(prompts.split("|"))
        self.say(
            self.s.any((prompt, capital(prompt), capital(prompt) + ("" if prompt[-1] == "?" else "!"))),
            reply,
            "chat",
        )

    def ask(self, peers: dict[str, list[str]], clear: bool) -> None:
        """A question for one of the peers, passed on word for word."""
        s = self.s
        name = s.any(list(peers))
        domain = s.any(peers[name])
        question = phrases_peers.other_question(s) if domain == "other" else peer_question(s, domain)
        question = said = decorated(s, question)
        if not clear or s.chance(0.15):
            shown = name if s.chance(0.5) else capital(name)
            said = s.pick(phrases_peers.TELL).format(a=shown, q=question)
        self.turns.append(Turn("user", said))
        result, text = peer_reply(s, domain)
        self.call(f"ask_{name}", {"question": question}, result, "ask")
        self.turns.append(
            Turn(
                "assistant",
                f"{capital(name)} says: {result}" if not text else text,
                "ask/answer" if not text else "error",
            )
        )


BEFORE = """Hi! |Hello! |Hi, |Hey, |Hello, |OK, |Okay. |Please: |Good morning. |One more thing: |Another question: |Next: |Sorry, |Excuse me, |Thanks. |Great. |Well, |Now: |Also: |I have a question. """.split(
    "|"
)
AFTER = " Thanks!| Thank you.| Thanks| please| Please.|, please| :)| Thanks in advance.| thanks| Quickly please.| ok?".split(
    "|"
)


def decorated(s: Source, question: str) -> str:
    """`question` with a greeting before it or thanks after it, or without its last mark, now and then."""
    if "\n" in question or question[-1] in "\"'”":
        return question
    if s.chance(0.06):
        question = s.pick(BEFORE) + question
    roll = s.random.random()
    if roll < 0.05 and question[-1] in ".?":
        question += s.pick([text for text in AFTER if text[0] == " "])
    elif roll < 0.1 and question[-1] == "?":
        question = question[:-1]
    elif roll < 0.13 and question[-1] == ".":
        question = question[:-1] + "!"
    elif roll < 0.15 and question[-1] in ".?":
        question = question[:-1] + " " + question[-1]
    return question


def peer_question(s: Source, domain: str) -> str:
    """A question for a peer of `domain`."""
    if domain == "notes" and s.chance(0.35):
        return phrases_notes.chain(s)[0]
    return ASK[s.any(TOOLS_OF[domain])](s)[0]


def peer_reply(s: Source, domain: str) -> tuple[str, str]:
    """What a peer answers, and nano's sentence where that is not simply quoting it."""
    if s.chance(0.04):
        return error(s)
    if domain == "other" or s.chance(0.12):
        return s.any(
            (
                phrases_notes.note_text,
                lambda s: str(whole(s)),
                lambda s: capital(title(s)) + ".",
                lambda s: NO_TOOL,
            )
        )(s), ""
    name = s.any(TOOLS_OF[domain])
    return answer(s, name, ASK[name](s)[1])[1], ""


def _renamed(schema: Schema, prefix: str) -> Schema:
    """`schema` under the name a toolbox gives it when two servers have a tool of one name."""
    function = schema["function"]
    return schema if not prefix else {**schema, "function": {**function, "name": prefix + function["name"]}}


def product(s: Source) -> list[Turn]:
    """A conversation with one to six of the bundled tools."""
    first = s.any(WEIGHTS)
    roll = s.random.random()
    offered = [first]
    if roll < 0.25:
        offered = list(SERVERS[next(server for server, names in SERVERS.items() if first in names)])
    elif roll < 0.85:
        servers = s.sample(list(SERVERS), s.int(2, 4))
        offered = list(dict.fromkeys([first, *(name for server in servers for name in SERVERS[server])]))
    if s.chance(0.08) and len(offered) > 2:
        offered.remove(s.any(offered[1:]))
    prefix = {
        name: (f"{server}_" if s.chance(0.02) else "") for server, names in SERVERS.items() for name in names
    }
    tools = [_renamed(PRODUCT[name], prefix[name]) for name in offered]
    if s.chance(0.08):
        tools.append(phrases_generic.make_tool(s)[0])
    kinds = ["any", *(DOMAIN_OF[name] for name in offered)]
    talk = Builder(s, role(s, kinds), tools, prefix)
    picks = [name for name in WEIGHTS if name in offered]
    apart = s.chance(0.65)
    for index in range(s.int(5, 8) if apart else s.any((1, 2, 3, 3, 4, 5))):
        extra, start = s.random.random(), len(talk.turns)
        if extra < 0.18:
            talk.refuse(offered)
        elif extra < 0.2:
            talk.small_talk()
        elif extra < 0.21 and index and not apart:
            talk.say(
                s.any(("Go on.", f"{s.any(phrases_peers.NEUTRAL)}: {peer_reply(s, 'calc')[0]}")),
                NOTHING,
                "chat",
            )
        else:
            talk.product(first if index == 0 else s.any(picks), offered)
        if apart:
            talk.part(start)
    return talk.turns


def peers(s: Source) -> list[Turn]:
    """A conversation with one to three peers, sometimes with tools of one's own beside them."""
    domains = ["calc", "units", "clock", "notes", "other"]
    count = s.any((1, 2, 2, 2, 3))
    s.random.shuffle(domains)
    shares: list[list[str]] = [[domain] for domain in domains[:count]]
    for domain in domains[count:]:
        if s.chance(0.35):
            s.any(shares).append(domain)
    usual = s.chance(0.3)
    if usual:
        shares = [["calc", "units", "clock"], ["notes"]]
    offered: dict[str, list[str]] = {}
    for share in shares:
        offered[phrases_peers.agent_name(s, s.any(share))] = share
    if usual and s.chance(0.5):
        offered = {"math": shares[0], "notes": shares[1]}
    if len(offered) < len(shares):
        return peers(s)
    tools = [ask_tool(name, phrases_peers.about(s, name, share)) for name, share in offered.items()]
    if usual and s.chance(0.3):
        words = ("Calculates, converts units and tells the time.", "Searches and reads the notes.")
        tools = [ask_tool(name, about) for name, about in zip(offered, words, strict=True)]
    covered = {domain for share in offered.values() for domain in share}
    own: list[str] = []
    if s.chance(0.2):
        free = [names for domain, names in TOOLS_OF.items() if domain not in covered]
        own = list(s.any(free)) if free else []
    vague = s.chance(0.1)
    if vague:
        tools = [
            ask_tool(name, s.any(("Answers questions.", "A helpful assistant.", "You can ask anything.")))
            for name in offered
        ]
    talk = Builder(s, role(s, ["peers", "peers", "any"]), [*tools, *(PRODUCT[name] for name in own)])
    apart = s.chance(0.65)
    for _ in range(s.int(4, 7) if apart else s.any((1, 2, 3, 3, 4))):
        roll, start = s.random.random(), len(talk.turns)
        if roll < 0.05 and not vague and "other" not in covered:
            talk.say(phrases_peers.hopeless(s), NO_TOOL, "refuse")
        elif roll < 0.07:
            talk.small_talk()
        elif own and roll < 0.4:
            talk.product(s.any(own), own)
        else:
            talk.ask(offered, clear=not vague or len(offered) == 1)
        if apart:
            talk.part(start)
    return talk.turns


def generic(s: Source) -> list[Turn]:
    """A conversation with one to three invented tools."""
    made = [phrases_generic.make_tool(s) for _ in range(s.int(1, 3))]
    made = list(
        {schema["function"]["name"]: (schema, action, names) for schema, action, names in made}.values()
    )
    talk = Builder(s, role(s, ["any"]), [schema for schema, _, _ in made])
    apart = s.chance(0.65)
    for _ in range(s.int(3, 5) if apart else s.int(1, 2)):
        start = len(talk.turns)
        if s.chance(0.08):
            talk.say(phrases_peers.hopeless(s), NO_TOOL, "refuse")
        else:
            schema, action, names = s.any(made)
            question, arguments = phrases_generic.ask(s, action, names)
            talk.turns.append(Turn("user", question))
            result, reply = phrases_generic.result(s)
            talk.call(schema["function"]["name"], arguments, result, "generic")
            talk.turns.append(Turn("assistant", reply, "generic/answer"))
        if apart:
            talk.part(start)
    return talk.turns


def sums(s: Source) -> list[Turn]:
    """A conversation of several calculations with nothing else on offer: arithmetic needs the most practice."""
    talk = Builder(s, role(s, ["calc", "any"]), [PRODUCT["evaluate"]])
    apart = s.chance(0.8)
    for _ in range(s.int(7, 11) if apart else s.int(3, 6)):
        start = len(talk.turns)
        talk.product("evaluate", ["evaluate"])
        if apart:
            talk.part(start)
    return talk.turns


def bare(s: Source) -> list[Turn]:
    """A conversation without any tool."""
    talk = Builder(s, role(s, ["any"]), [])
    for _ in range(s.int(1, 2)):
        if s.chance(0.5):
            talk.small_talk()
        else:
            talk.say(
                phrases_peers.hopeless(s) if s.chance(0.6) else ASK[s.any(WEIGHTS)](s)[0], NO_TOOL, "refuse"
            )
    return talk.turns


def conversation(s: Source, copying: float = 0.08, easy: float = 0.1) -> list[Turn]:
    """One conversation of the mix; `copying` is the share of copying exercises, `easy` that of easy ones in them."""
    if s.chance(copying):
        return primer(s, easy)
    roll = s.random.random()
    if roll < 0.53:
        return product(s)
    if roll < 0.73:
        return sums(s)
    if roll < 0.94:
        return peers(s)
    return generic(s) if roll < 0.975 else bare(s)
