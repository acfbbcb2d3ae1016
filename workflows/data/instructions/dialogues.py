"""Conversations of several rounds, in which later rounds speak of earlier ones.

"Find the red circles." → "Outline the largest of them." routes `largest red circle` to [SEG]:
the answer always names in full what the person left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from superlink.workflows.data.instructions.answers import UNCLEAR
from superlink.workflows.data.instructions.grammar import Split, draw
from superlink.workflows.data.instructions.phrases import Phrase, described
from superlink.workflows.data.instructions.tasks import (
    Instruction,
    PhraseSource,
    Request,
    dressed,
    fill,
    finished,
    instruction,
)
from superlink.workflows.data.instructions.words import COLORS, SHAPES, SIZES, plural

OPENINGS = (("detect", "segment", "ground", "mixed", "chat"), (52, 22, 12, 6, 8))
LATER = (
    ("one found", 18),
    ("one masked", 18),
    ("them masked", 14),
    ("them found", 7),
    ("more", 12),
    ("other colour", 6),
    ("other colour found", 3),
    ("nothing", 4),
    ("again", 2),
    ("chat", 8),
    ("fresh", 8),
)
_MASKED = ("one masked", "them masked")
# How a person says one of several, by what it means; what the answer writes before or after the noun.
_PLACED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "left": ("leftmost", "", ("on the left", "furthest to the left", "on the far left", "to the left")),
    "right": ("rightmost", "", ("on the right", "furthest to the right", "on the far right", "to the right")),
    "top": ("topmost", "", ("at the top", "highest up", "on top", "at the very top")),
    "bottom": ("bottommost", "", ("at the bottom", "lowest down", "furthest down", "at the very bottom")),
    "center": (
        "",
        "in the middle",
        ("in the middle", "in the centre", "in the center", "closest to the centre"),
    ),
    "top left": (
        "",
        "in the top left corner",
        ("in the top left corner", "in the top left", "at the top left"),
    ),
    "top right": ("", "in the top right corner", ("in the top right corner", "in the top right")),
    "bottom left": ("", "in the bottom left corner", ("in the bottom left corner", "in the bottom left")),
    "bottom right": ("", "in the bottom right corner", ("in the bottom right corner", "in the bottom right")),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("leftmost", "left-most", "left"),
    "right": ("rightmost", "right-most", "right"),
    "top": ("topmost", "top", "uppermost", "highest"),
    "bottom": ("bottommost", "bottom", "lowest"),
    "largest": ("largest", "biggest"),
    "smallest": ("smallest", "tiniest"),
}
_KEPT = {"left": "leftmost", "left-most": "leftmost", "right": "rightmost", "right-most": "rightmost"}
_THEM = ("them", "them", "them", "them all", "all of them", "these", "those", "all of these", "each of them")


def dialogue(rng: Random, split: Split, source: PhraseSource, rounds: int) -> list[Instruction]:
    """A conversation of `rounds` rounds (fewer only where the source runs out of phrases)."""
    turns: list[Instruction] = []
    while len(turns) < rounds:
        if not turns:
            task = rng.choices(*OPENINGS)[0]
            found = instruction(rng, task, split, source)
        else:
            found = _later(rng, split, source, turns)
        if found is not None:
            turns.append(found)
    return turns


def _later(
    rng: Random, split: Split, source: PhraseSource, turns: Sequence[Instruction]
) -> Instruction | None:
    kind = rng.choices([name for name, _ in LATER], [weight for _, weight in LATER])[0]
    last = next((turn.requests for turn in reversed(turns) if turn.requests), ())
    if kind == "chat" or (not last and kind != "fresh"):
        found = instruction(rng, "chat", split, source)
        # "Find it" is a question only where nothing was spoken of.
        return None if found is None or (last and found.reply == UNCLEAR) else found
    if kind == "fresh":
        # After masks, "what about the stars?" means masks again: only a clear order asks for boxes.
        detect = "detect/imperative" if last and last[-1].token == "[SEG]" else "detect"
        task = rng.choice((detect, "segment", "ground", "mixed", "negation/partial"))
        found = instruction(rng, task, split, source)
        # "the largest one" would mean one of those before.
        return None if found is None or _leaves_out_noun(found) else found
    skeleton = dressed(rng, draw(rng, "dialogue", split, kind), split)
    filled = _referring(rng, kind, skeleton, last, source)
    if filled is None:
        return None
    text, requests = filled
    return Instruction(
        text=finished(rng, text, split, context=rng.random() < 0.3), requests=requests, task="dialogue"
    )


def _referring(
    rng: Random, kind: str, skeleton: str, last: Sequence[Request], source: PhraseSource
) -> tuple[str, tuple[Request, ...]] | None:
    phrases = list({request.phrase.name: request.phrase for request in last}.values())
    if kind == "nothing":
        return skeleton, ()
    if kind == "again":
        return skeleton, tuple(last)
    if kind in ("one found", "one masked"):
        return _one(rng, kind, skeleton, phrases, source)
    if kind in ("them masked", "them found"):
        token = "[SEG]" if kind == "them masked" else "[GRD]" if _is_one(phrases) else "[DET]"
        one = _is_one(phrases) or (len(phrases) == 1 and rng.random() < 0.2)
        them = rng.choice(("it", "it", "that", "that one", "this one") if one else _THEM)
        text = skeleton.replace("{o:them}", them)
        return text, tuple(Request(token=token, phrase=phrase) for phrase in phrases)
    token = "[SEG]" if last[-1].token == "[SEG]" and kind != "other colour found" else "[DET]"
    if kind == "more":
        filled = fill(rng, skeleton, source, False)
        if filled is None:
            return None
        text, requests = filled
        return text, tuple(replace(request, token=token) for request in requests)
    return _other_color(rng, skeleton, phrases[-1], token)


def _leaves_out_noun(found: Instruction) -> bool:
    return any(
        request.phrase.is_one and request.phrase.noun not in found.text.lower() for request in found.requests
    )


def _is_one(phrases: Sequence[Phrase]) -> bool:
    return len(phrases) == 1 and phrases[0].is_one


def _one(
    rng: Random, kind: str, skeleton: str, phrases: Sequence[Phrase], source: PhraseSource
) -> tuple[str, tuple[Request, ...]] | None:
    """ "the largest of them", "the one on the left": one object of the class before."""
    if len(phrases) > 1 and rng.random() < 0.6:  # less often "the largest of them all"
        return None
    found = source.one_of(rng, [_class_of(phrase) for phrase in phrases])
    if found is None:
        return None
    known = _class_of(phrases[0]) if len(phrases) == 1 else described("object")
    superlative = found[1]
    if superlative in _PLACED and (superlative not in _WORDS or rng.random() < 0.5):
        before, after, said = _PLACED[superlative]
        noun = known.noun if not known.before and rng.random() < 0.25 else "one"
        place = rng.choice(said)
        text = f"the {noun} {place}"
        after = after if before or not after else place
    else:
        word = rng.choice(_WORDS[superlative])
        before, after = _KEPT.get(word, word), ""
        nouns = plural(known.noun)
        forms = [f"the {word} one", f"the {word} one", f"the {word} one of them"]
        if word.endswith("st"):
            forms += [f"the {word}", f"the {word} of them", f"the {word} of these", f"the {word} of those"]
        if not known.before:
            forms += [f"the {word} {known.noun}", f"the {word} one of the {nouns}"]
        text = rng.choice(forms)
    phrase = replace(
        known,
        before=tuple(part for part in (before, *known.before) if part),
        after=after,
        superlative=before,
        is_one=True,
        meaning=found[0].meaning,
    )
    token = "[SEG]" if kind in _MASKED else "[GRD]"
    return skeleton.replace("{o:ref}", text), (Request(token=token, phrase=phrase),)


def _class_of(phrase: Phrase) -> Phrase:
    """The class that a phrase chose one object of: "leftmost circle" → "circle"."""
    if not phrase.is_one:
        return phrase
    before = tuple(word for word in phrase.before if word != phrase.superlative)
    after = "" if len(before) == len(phrase.before) else phrase.after
    meaning = None if phrase.meaning is None else replace(phrase.meaning, superlative=None)
    return replace(phrase, before=before, after=after, superlative="", is_one=False, meaning=meaning)


def _other_color(
    rng: Random, skeleton: str, last: Phrase, token: str
) -> tuple[str, tuple[Request, ...]] | None:
    """ "what about the blue ones": the same noun in another colour or size."""
    if last.is_one or last.after:
        return None
    if last.meaning is not None and rng.random() < 0.15:
        size = rng.choice(tuple(SIZES))
        word, phrase = size, described(last.noun, color=last.color, size=size)
    else:
        word = rng.choice([color for color in COLORS if color != last.color])
        if last.meaning is None:
            phrase = Phrase(noun=last.noun, before=(word,), color=word)
        else:
            phrase = described(last.noun, color=word)
    text = skeleton.replace("{o:ones}", f"{word} ones").replace("{o:onesingle}", f"{word} one")
    if last.noun in SHAPES and rng.random() < 0.1:
        text = text.replace(f"{word} ones", f"ones in {word}")
    return text, (Request(token=token, phrase=phrase),)
