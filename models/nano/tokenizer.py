"""nano's tokenizer: byte-level BPE in which a word is spelled the same after a space and after a quotation mark.

No merge joins a space to letters, digits stand alone, and the format's fixed strings are one token each. Run as a
script it learns the merges from generated text and writes `tokenizer.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from conversations import render
from generate import conversation
from schemas import fixed_texts
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from words import Source

CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPACED = """the a of is what and to in with for at on from by my me how many are have does has it this please you can I as
where now do what's about there all be each was says result note notes found one much time will not no or if when
which that You Ask your""".split()
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


class NanoTokenizer:
    """Turns text into token numbers exactly as llama.cpp does from the GGUF's metadata."""

    def __init__(self, path: Path) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        self.tokens: list[str] = data["tokens"]
        self.types: list[int] = data["types"]
        self.merges = [(left, right) for left, right in data["merges"]]
        self.number = {token: index for index, token in enumerate(self.tokens)}
        fixed = [
            token
            for token, kind in zip(self.tokens, self.types, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
        self._fixed = sorted(fixed, key=len, reverse=True)
        base = {token: index for index, token in enumerate(self.tokens) if self.types[index] == NORMAL}
        self._bpe = Tokenizer(models.BPE(vocab=base, merges=self.merges))
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self._cache: dict[str, list[int]] = {}

    def _split(self, text: str) -> list[int | str]:
        """`text` with the fixed strings cut out, the longest first over the whole text, as llama.cpp does."""
        pieces: list[int | str] = [text]
        for fixed in self._fixed:
            if fixed not in text:
                continue
            cut: list[int | str] = []
            for piece in pieces:
                if isinstance(piece, int):
                    cut.append(piece)
                    continue
                for index, part in enumerate(piece.split(fixed)):
                    if index:
                        cut.append(self.number[fixed])
                    if part:
                        cut.append(part)
            pieces = cut
        return pieces

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`; control tokens written in it count as such."""
        numbers: list[int] = []
        for piece in self._split(text):
            if isinstance(piece, int):
                numbers.append(piece)
                continue
            known = self._cache.get(piece)
            if known is None:
                known = self._bpe.encode(piece, add_special_tokens=False).ids
                if len(self._cache) < 200_000:
                    self._cache[piece] = known
            numbers.extend(known)
        return numbers

    def decode(self, numbers: list[int]) -> str:
        """The text of `numbers`."""
        decoder, text, waiting = ByteLevel(), "", []
        for number in numbers:
            if self.types[number] == NORMAL:
                waiting.append(self.tokens[number])
            else:
                text += decoder.decode(waiting) + self.tokens[number]
                waiting = []
        return text + decoder.decode(waiting)


def _plain_pieces(count: int, seed: int) -> list[str]:
    pieces: list[str] = []
    fixed = sorted([*fixed_texts(), *CONTROLS], key=len, reverse=True)
    source = Source(seed)
    for _ in range(count):
        parts = [render(conversation(source, copying=0.0))]
        for text in fixed:
            parts = [piece for part in parts for piece in part.split(text) if piece]
        pieces += parts
    return pieces


def learn(size: int, conversations: int, seed: int) -> dict[str, object]:
    """The vocabulary of `size` tokens learnt from generated text, as `NanoTokenizer` reads it."""
    bpe = Tokenizer(models.BPE())
    words = Regex(r"[A-Za-z]+|\s|[0-9]|[^\sA-Za-z0-9]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fixed = fixed_texts()
    spare = size - len(fixed) - len(CONTROLS) - len(SPACED) - 10
    trainer = trainers.BpeTrainer(
        vocab_size=spare,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    bpe.train_from_iterator(_plain_pieces(conversations, seed), trainer)
    model = json.loads(bpe.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    for follower in dict.fromkeys(['"', "+", "*", "-", "/", "(", *SPACED]):
        if follower in vocabulary:
            merges.append(("Ġ", follower))
            tokens.append("Ġ" + follower)
    types = [NORMAL] * len(tokens) + [USER_DEFINED] * len(fixed) + [CONTROL] * len(CONTROLS)
    tokens += fixed + CONTROLS
    while len(tokens) < size:
        tokens.append(f"<|unused{len(tokens)}|>")
        types.append(UNUSED)
    return {"tokens": tokens, "types": types, "merges": merges}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--conversations", type=int, default=8000)
    options = parser.parse_args()
    learnt = learn(options.size, options.conversations, seed=7)
    options.out.write_text(json.dumps(learnt, ensure_ascii=False), encoding="utf-8")
    tokenizer, source, lengths = NanoTokenizer(options.out), Source(1), []
    for _ in range(500):
        text = render(conversation(source))
        numbers = tokenizer.encode(text)
        if tokenizer.decode(numbers) != text:
            raise SystemExit(f"does not come back: {text!r}")
        lengths.append(len(numbers))
    print(
        f"{len(tokenizer.tokens)} tokens; a conversation has {sum(lengths) / 500:.0f} on average, {max(lengths)} at most"
    )


if __name__ == "__main__":
    main()
