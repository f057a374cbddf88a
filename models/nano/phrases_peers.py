"""Peers: their names, what they say about themselves, and questions that no bundled tool fits."""

from __future__ import annotations

from words import NAMES, Source, capital, city, is_held, lines, person, pseudo, title, word

ROLE_NAMES = {
    "calc": "math calc calculator maths numbers sums arithmetic abacus adder counter figures".split(),
    "units": "units converter convert measures scale metric ruler measure".split(),
    "clock": "clock time timekeeper zones watch hours when chronos timer".split(),
    "notes": "notes library notebook memory librarian archive keeper reader papers diary files".split(),
    "other": "weather travel legal music cook coach news doctor sports history garden shop films art code pets".split(),
}
NEUTRAL = "desk helper front ada ben nora expert assistant bot peer worker aide buddy clerk guide".split()
_DOING = {domain: lines(f"peers_{domain}") for domain in ("calc", "units", "clock", "notes", "other")}
TOPICS = {
    "calc": "arithmetic|calculations|sums and percentages|numbers|maths|math problems".split("|"),
    "units": "unit conversion|units|measurements|units of measure".split("|"),
    "clock": "time zones|the time|times and dates|clocks and time zones".split("|"),
    "notes": "the notes|notes|my notes|searching the notes|reading notes".split("|"),
    "other": "weather|travel|law|music|cooking|sports|news|health|history|gardening|films|code|pets".split(
        "|"
    ),
}
OTHER_QUESTIONS = lines("peers_other_questions")
HOPELESS = lines("hopeless")
TELL = lines("peers_tell")


def agent_name(s: Source, domain: str) -> str:
    """A name for a peer: one that fits its domain, one that says nothing, or an invented one."""
    roll = s.random.random()
    if roll < 0.45:
        return s.any(ROLE_NAMES[domain])
    if roll < 0.6:
        return s.any(NEUTRAL)
    if roll < 0.75:
        return s.word(NAMES).lower()
    return pseudo(s, s.any((1, 2, 2)))


VERBS = {
    "calc": "calculates|computes|works out|evaluates|does|solves|handles|answers|knows|takes care of|understands",
    "units": "converts|changes|translates|handles|knows|understands|takes care of|works out",
    "clock": "tells|knows|gives|looks up|checks|handles|reports|finds",
    "notes": "searches|reads|finds|keeps|opens|looks through|knows|looks after|searches and reads|finds and reads|has",
}
OBJECTS = {
    "calc": "sums|arithmetic|expressions|numbers|percentages|calculations|maths|maths problems|word problems|totals|"
    "additions and multiplications|math|the figures|math questions|the sums|prices and totals",
    "units": "units|measurements|units of measure|lengths and weights|temperatures|distances|metric and imperial units|"
    "miles and kilometers|weights|volumes|speeds|feet and meters|pounds and kilograms|values between units",
    "clock": "the time|the date|the time in any city|local times|the time around the world|times between cities|"
    "time zones|the time anywhere|times|the date and time|dates and times|world clocks|the hour in every city",
    "notes": "the notes|my notes|notes|the notebook|written notes|the user's notes|personal notes|what was noted|"
    "our notes|the folder of notes|notes by title|the note collection",
}


def composed(s: Source, domain: str) -> str:
    """What a peer does, put together from a verb and what it does it with."""
    for _ in range(200):
        text = f"{s.any(VERBS[domain].split('|'))} {s.any(OBJECTS[domain].split('|'))}"
        if is_held(text) == s.held:
            break
    return text


def doing(s: Source, domain: str) -> str:
    """What a peer of this domain does, in the third person."""
    return s.pick(_DOING[domain]) if s.chance(0.5) or domain == "other" else composed(s, domain)


def about(s: Source, name: str, domains: list[str]) -> str:
    """One sentence a peer of these domains gives of itself."""
    acts = [doing(s, domain) for domain in domains]
    listed = acts[0] if len(acts) == 1 else ", ".join(acts[:-1]) + " and " + acts[-1]
    topics = [s.pick(TOPICS[domain]) for domain in domains]
    subject = topics[0] if len(topics) == 1 else ", ".join(topics[:-1]) + " and " + topics[-1]
    roll = s.random.random()
    if roll < 0.5:
        return f"{capital(listed)}."
    if roll < 0.62:
        return f"{capital(name)} {listed}."
    if roll < 0.84:
        forms = (
            "Knows about {}.",
            "Answers questions about {}.",
            "Helps with {}.",
            "Good at {}.",
            "Takes care of {}.",
        )
        return s.any((*forms, "For {}.", "An expert in {}.", "Handles {}.", "Does {}.")).format(subject)
    plain = listed if len(acts) == 1 else subject
    return (
        f"{s.any(('An agent that', 'A peer that', 'An assistant that', 'The agent that'))} {acts[0]}."
        if (plain == listed)
        else f"Handles {subject}."
    )


def other_question(s: Source) -> str:
    """A question of a domain that no bundled tool serves."""
    return s.pick(OTHER_QUESTIONS).format(c=city(s), d=city(s), n=person(s), t=title(s), w=word(s), v=word(s))


def hopeless(s: Source) -> str:
    """A request that no offered tool fits."""
    return s.pick(HOPELESS).format(c=city(s), n=person(s), t=title(s), w=word(s))


ALL_FORMS = [*OTHER_QUESTIONS, *HOPELESS]
