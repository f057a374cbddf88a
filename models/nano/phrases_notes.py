"""Questions for the notes, the texts that notes hold, and what the tools answer."""

from __future__ import annotations

from words import (
    DAYS,
    MONTHS,
    Source,
    capital,
    city,
    clock_time,
    code,
    date,
    decimal,
    lines,
    person,
    title,
    topic,
    word,
)

SEARCH = lines("notes_search")

READ = lines("notes_read")

CHAIN = lines("notes_chain")

SENTENCES = lines("notes_sentences")


def note_text(s: Source) -> str:
    """One to three sentences with names, numbers, dates and prices in them."""
    if s.chance(0.06):
        return s.any((word, code, title, date, decimal))(s)
    if s.chance(0.08):
        return "\n".join(f"- {' '.join(word(s) for _ in range(s.int(1, 3)))}" for _ in range(s.int(2, 5)))
    sentences = []
    for _ in range(s.any((1, 1, 1, 2, 2, 3))):
        sentences.append(
            capital(
                s.any(SENTENCES).format(
                    n=person(s).split()[0], m=person(s), d=date(s), t=clock_time(s), s=clock_time(s), w=word(s),
                    v=word(s), u=word(s), o=word(s), x=decimal(s), z=decimal(s), k=code(s), c=city(s), y=s.int(20, 9999),
                    i=s.int(2, 99), j=s.int(2, 99), h=s.int(1, 31), e=s.int(1, 9), M=s.any(MONTHS), D=s.any(DAYS),
                    W=capital(word(s)), V=capital(word(s)),
                )
            )
        )  # fmt: skip
    return s.any((" ", " ", " ", " ", "\n", "\n\n")).join(sentences)


def listing(s: Source, titles: list[str]) -> str:
    """What `search_notes` answers for `titles`."""
    if not titles:
        return "No note matches."
    return f"{len(titles)} note{'s' if len(titles) > 1 else ''}: " + "; ".join(titles)


def listing_answer(text: str) -> str:
    """nano's sentence for a listing."""
    return text if text.startswith("No ") else f"I found {text}."


def quoted(s: Source, text: str, share: float) -> str:
    """`text`, now and then in quotation marks."""
    return s.any(('"%s"', "'%s'", "“%s”")) % text if s.chance(share) else text


def sought(words: str, shown: str) -> str:
    """What to search for when somebody types `shown`: `words` without an article, unless they stand in quotation marks."""
    first, _, rest = words.partition(" ")
    return rest if shown == words and first in ("the", "a", "my", "our") else words


def search(s: Source) -> tuple[str, dict[str, object]]:
    """A question for `search_notes`."""
    words = topic(s)
    shown = quoted(s, words, 0.15)
    return s.pick(SEARCH).format(q=shown), {"query": sought(words, shown)}


def chain(s: Source) -> tuple[str, dict[str, object]]:
    """A question that takes a search, then a reading."""
    words = topic(s)
    shown = quoted(s, words, 0.08)
    return s.pick(CHAIN).format(q=shown), {"query": sought(words, shown)}


def read(s: Source) -> tuple[str, dict[str, object]]:
    """A question for `read_note`."""
    name = title(s)
    return s.pick(READ).format(q=quoted(s, name, 0.2)), {"title": name}


ALL_FORMS = [*SEARCH, *READ, *CHAIN]
