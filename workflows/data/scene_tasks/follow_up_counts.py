"""Follow-ups that count: them, some of them, what was named, what is of a colour, what an edit has left."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from superlink.workflows.data.instructions.grammar import Split
from superlink.workflows.data.instructions.phrases import Phrase, described
from superlink.workflows.data.instructions.words import COLORS, GENERIC, HALVES, SIZES, plural
from superlink.workflows.data.scene_phrases import selected
from superlink.workflows.data.scene_tasks.answers import COUNTED
from superlink.workflows.data.scene_tasks.talk import Focus, Round, Talk, asked, spoken

_FILE = "follow_up"
_THERE = 0.65  # share of sizes, colours and places asked for that some of them have


def count(rng: Random, split: Split, talk: Talk) -> Round | None:
    """How many of them there are."""
    focus = talk.focus
    if focus is None or not focus.is_class or focus.phrase.meaning is None:
        return None
    needs = "them" if focus.said else ""
    text = asked(rng, split, _FILE, "count", {"them": focus.them(rng)}, needs=needs)
    after = talk.about(focus.phrase, focus.items)
    return spoken("count", text, talk, f"I count {COUNTED[len(focus.items)]}.", after)


def count_some(rng: Random, split: Split, talk: Talk) -> Round | None:
    """How many of them are large, red, or on the left; those are what the next round has to name."""
    focus = talk.focus
    if focus is None or focus.said or not focus.is_class or focus.phrase.meaning is None:
        return None
    narrowed = _narrowed(rng, talk, focus.phrase)
    if not focus.items or narrowed is None:
        return None
    value, phrase = narrowed
    items = selected(talk.scene, phrase.meaning) if phrase.meaning else None
    if items is None:
        return None
    text = asked(rng, split, _FILE, "count some", {"word": value})
    said = f"the ones {value}" if phrase.after else f"the {value} ones"
    after = talk.about(phrase, items, focus=Focus(phrase=phrase, items=tuple(items), said=said))
    return spoken("count some", text, talk, f"I count {COUNTED[len(items)]}.", after)


def _narrowed(rng: Random, talk: Talk, phrase: Phrase) -> tuple[str, Phrase] | None:
    """A class and one thing more: what it is, and the phrase for both."""
    meaning = phrase.meaning
    assert meaning is not None
    kinds = [("size", meaning.size), ("color", meaning.color), ("half", meaning.half)]
    open_kinds = [name for name, value in kinds if value is None]
    if not open_kinds or phrase.after:
        return None
    own = selected(talk.scene, meaning) or []
    is_there = rng.random() < _THERE
    kind = rng.choice(open_kinds)
    if kind == "size":
        sizes = [word for word, size in SIZES.items() if size in {item.size for item in own}]
        value = rng.choice(sizes if sizes and is_there else list(SIZES))
        changed = replace(meaning, size=SIZES[value])
        return value, replace(phrase, before=(value, *phrase.before), meaning=changed)
    if kind == "color":
        colors = sorted({item.color for item in own})
        value = rng.choice(colors if colors and is_there else list(COLORS))
        changed = replace(meaning, color=COLORS[value])
        return value, replace(phrase, before=(*phrase.before, value), color=value, meaning=changed)
    halves = [half for half in HALVES if any(half in (item.column, item.row) for item in own)]
    half = rng.choice(halves if halves and is_there else list(HALVES))
    value = rng.choice(HALVES[half])
    return value, replace(phrase, after=value, meaning=replace(meaning, half=half))


def count_named(rng: Random, split: Split, talk: Talk) -> Round | None:
    """How many things a caption has named."""
    if not talk.named:
        return None
    text = asked(rng, split, _FILE, "count named", {})
    return spoken("count named", text, talk, f"I count {COUNTED[len(talk.scene.objects)]}.")


def count_color(rng: Random, split: Split, talk: Talk) -> Round | None:
    """How many things have the colour that was just spoken of."""
    if not talk.color:
        return None
    phrase = described("object", color=talk.color)
    items = talk.source.objects(phrase)
    text = asked(rng, split, _FILE, "count colour", {})
    return spoken("count colour", text, talk, f"I count {COUNTED[len(items)]}.", talk.about(phrase, items))


def count_left(rng: Random, split: Split, talk: Talk) -> Round | None:
    """How many remain of a class after one was removed."""
    if talk.change != "remove" or talk.group is None or talk.group.meaning is None:
        return None
    items = selected(talk.scene, talk.group.meaning)
    if items is None:
        return None
    text = asked(rng, split, _FILE, "count left", {})
    reply = f"I count {COUNTED[len(items)]}."
    return spoken("count left", text, talk, reply, talk.about(talk.group, items))


def count_now(rng: Random, split: Split, talk: Talk) -> Round | None:
    """How many things of the new colour, or of a shape, an edited picture has."""
    if not talk.change:
        return None
    if talk.change == "recolor" and rng.random() < 0.7:
        phrase = described(rng.choice(GENERIC), color=talk.color)
    else:
        phrase = described(rng.choice([*GENERIC, *(item.shape for item in talk.scene.objects)]))
    items = talk.source.objects(phrase)
    said = " ".join((*phrase.before, plural(phrase.noun)))
    text = asked(rng, split, _FILE, "count now", {"many": said})
    return spoken("count now", text, talk, f"I count {COUNTED[len(items)]}.", talk.about(phrase, items))
