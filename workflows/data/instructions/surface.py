"""The surface of an instruction: politeness, context, letter case, punctuation, small typos.

Everything here leaves what is asked for unchanged, and never touches the words in slots.
"""

from __future__ import annotations

import re
from random import Random

from superlink.workflows.data.instructions.grammar import Split, draw
from superlink.workflows.data.instructions.words import invented

_OPENERS = "where which what who is are was were do does did can could would will how why when may should any"
_QUESTION = re.compile(
    rf"(?:please |in |at |and |so )?(?:{'|'.join(_OPENERS.split())}|have you|aren't)\b", re.IGNORECASE
)
# Words that a sentence cannot lose without meaning something else.
_TELLING = frozenset(
    [
        "dont",
        "don't",
        "without",
        "except",
        "never",
        "nothing",
        "none",
        "ignore",
        "skip",
        "forget",
        "leave",
        "stop",
        "many",
        "much",
        "count",
        "number",
        "colour",
        "color",
        "what",
        "which",
        "describe",
        "paint",
        "draw",
        "change",
        "remove",
        "replace",
        "joke",
        "thanks",
    ]
)


def wrapped(rng: Random, skeleton: str, split: Split, imperative: bool) -> str:
    """Politeness around a skeleton (a template whose slots are still open)."""
    if rng.random() < (0.42 if imperative else 0.18):
        section = "imperative" if imperative and rng.random() < 0.75 else "any"
        wrapper = draw(rng, "wrappers", split, section).body.sample(rng)
        skeleton = wrapper.replace("{}", skeleton, 1)
    return skeleton


def with_context(rng: Random, text: str, split: Split) -> str:
    """Sometimes a sentence before or after that asks for nothing."""
    draw_one = rng.random()
    if draw_one < 0.07:
        before = draw(rng, "contexts", split, "before").body.sample(rng)
        return f"{before[:1].upper()}{before[1:]} {text}"
    if draw_one < 0.11:
        after = draw(rng, "contexts", split, "after").body.sample(rng)
        stop = "" if text.endswith((".", "?", "!")) else "."
        return f"{text}{stop} {after[:1].upper()}{after[1:]}"
    return text


def with_typo(rng: Random, skeleton: str, rate: float = 0.06) -> str:
    """Now and then one slip of the keyboard in a word outside the slots."""
    if rng.random() >= rate:
        return skeleton
    words = skeleton.split(" ")
    places = [k for k, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return skeleton
    place = rng.choice(places)
    word = words[place]
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        word = word[:at] + word[at + 1 :]
    elif kind == 1:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind == 2:
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + rng.choice("abcdefghijklmnoprstuvwy") + word[at + 1 :]
    words[place] = word
    return " ".join(words)


def with_strange_word(rng: Random, skeleton: str, rate: float = 0.05) -> str:
    """Now and then a word that nobody knows in place of one outside the slots.

    Sentences whose words are all known would teach that an unknown word means something of its own.
    """
    if rng.random() >= rate:
        return skeleton
    words = skeleton.split(" ")
    places = [k for k, word in enumerate(words) if len(word) > 3 and word.isalpha() and word not in _TELLING]
    if places:
        words[rng.choice(places)] = invented(rng)
    return " ".join(words)


def is_question(text: str) -> bool:
    return _QUESTION.match(text) is not None


def punctuated(rng: Random, text: str) -> str:
    """A full stop, question or exclamation mark at the end, or none."""
    if text.endswith((".", "?", "!")):
        return text
    if is_question(text):
        return text + rng.choices(("?", "", ".", "??"), (70, 24, 4, 2))[0]
    return text + rng.choices((".", "", "!", "?", "...", " :)"), (45, 43, 7, 3, 1, 1))[0]


def cased(rng: Random, text: str) -> str:
    """Sentence case most often, all lower or all upper now and then."""
    style = rng.random()
    if style < 0.62:
        return text[:1].upper() + text[1:]
    if style < 0.70:
        return text.lower()
    if style < 0.73:
        return text.upper()
    if style < 0.74:
        return text.title()
    return text


def without_apostrophes(rng: Random, text: str) -> str:
    """ "dont", "im": as hurried people write."""
    return text.replace("'", "") if rng.random() < 0.12 else text
