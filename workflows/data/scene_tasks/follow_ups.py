"""Later rounds of conversations: each turns what was found, marked or named into another task.

A follow-up is None where the talk does not offer what it refers to, or the scene does not settle it.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Literal

from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import Split, draw, word_list
from superlink.workflows.data.instructions.phrases import described
from superlink.workflows.data.instructions.tasks import filled
from superlink.workflows.data.instructions.words import GENERIC, article
from superlink.workflows.data.scene_tasks.openings import named_mark
from superlink.workflows.data.scene_tasks.talk import (
    Focus,
    Round,
    Talk,
    asked,
    it_or_one,
    kind_of,
    one_of_them,
    routed,
    spoken,
)

_FILE = "follow_up"
# Replies of chat that go well with any round, and speak of nothing that "them" could mean.
_SMALL_TALK = ("You are welcome.", "I am fine, thank you. What shall I find?")


def one(rng: Random, split: Split, talk: Talk, *, token: Literal["[GRD]", "[SEG]"]) -> Round | None:
    """The box or the mask of one of them."""
    found = one_of_them(rng, talk)
    # After masks, "the largest one" alone means its mask.
    if found is None or (token == "[GRD]" and talk.token == "[SEG]"):
        return None
    said, focus = found
    section = "one masked" if token == "[SEG]" else "one found"
    text = asked(rng, split, "dialogue", section, {"ref": said}, needs="ref")
    kind = "segment one" if token == "[SEG]" else "find one"
    return routed(kind, text, talk, token, focus.phrase, focus.items)


def them(rng: Random, split: Split, talk: Talk, *, token: Literal["[DET]", "[SEG]"]) -> Round | None:
    """Boxes or masks of all of them, or of it."""
    focus = talk.focus
    if focus is None or talk.token == token:
        return None
    section = "them masked" if token == "[SEG]" else "them found"
    # "Their outlines too" follows on boxes only, and not on one object.
    is_plain = focus.is_class and not focus.said and talk.token in ("[DET]", "[SEG]")
    needs = "" if is_plain else "them"
    text = asked(rng, split, "dialogue", section, {"them": focus.them(rng)}, needs=needs)
    wanted = "[GRD]" if token == "[DET]" and not focus.is_class and not focus.is_region else token
    kind = "segment them" if token == "[SEG]" else "find them"
    return routed(kind, text, talk, wanted, focus.phrase, focus.items)


def color(rng: Random, split: Split, talk: Talk) -> Round | None:
    """What colour it, or one of them, is; or has become."""
    found = it_or_one(rng, talk)
    if found is None:
        return None
    said, focus = found
    is_new = talk.change == "recolor"
    is_told = focus.phrase.color or (focus.is_region and talk.color)
    if is_told and not is_new:
        return None
    text = asked(rng, split, _FILE, "color now" if is_new else "color", {"it": said}, needs="it")
    (item,) = focus.items
    after = talk.about(focus.phrase, focus.items, color=item.color)
    return spoken("color", text, talk, f"It is {item.color}.", after)


def what(rng: Random, split: Split, talk: Talk) -> Round | None:
    """What it is, where only its mark or "thing" was said."""
    focus = talk.focus
    if focus is None or focus.said or len(focus.items) != 1:
        return None
    if not focus.is_region and focus.phrase.noun not in GENERIC:
        return None
    (item,) = focus.items
    text = asked(rng, split, _FILE, "what", {})
    after = talk.about(focus.phrase, focus.items, color=item.color)
    return spoken("what", text, talk, f"It is {article(item.color)} {item.color} {item.shape}.", after)


def place(rng: Random, split: Split, talk: Talk) -> Round | None:
    """On which side, or in which corner, it, one of them or something named is."""
    found = _named_one(rng, talk) if talk.named else it_or_one(rng, talk)
    if found is None:
        return None
    said, focus = found
    (item,) = focus.items
    if item.row and item.column and rng.random() < 0.4:
        text = asked(rng, split, _FILE, "corner", {"it": said}, needs="it")
        reply = f"It is in the {item.row} {item.column}."
    else:
        options = [
            (side, words) for side, words in ((item.column, "left or right"), (item.row, "top or bottom"))
        ]
        settled = [(side, words) for side, words in options if side]
        if not settled:
            return None
        side, words = rng.choice(settled)
        slots = {"it": said, "or": rng.choice(word_list(words))}
        text = asked(rng, split, _FILE, "side", slots, needs="it")
        reply = f"It is {'on' if words == 'left or right' else 'at'} the {side}."
    return spoken("place", text, talk, reply, talk.about(focus.phrase, focus.items))


def _named_one(rng: Random, talk: Talk) -> tuple[str, Focus] | None:
    """Something that a caption named once."""
    single = [(name, items) for name, items in talk.named.items() if len(items) == 1]
    if not single:
        return None
    name, items = rng.choice(single)
    phrase = replace(described(items[0].shape, color=items[0].color), is_one=True)
    return f"the {name}", Focus(phrase=phrase, items=tuple(items))


def like(rng: Random, split: Split, talk: Talk) -> Round | None:
    """Everything of the kind, or of the shape, of the one in focus."""
    focus = talk.focus
    if focus is None or focus.said or len(focus.items) != 1:
        return None
    noun, hue = kind_of(focus)
    has_color = rng.random() < 0.65
    text = asked(
        rng, split, _FILE, "like" if has_color else "like shape", {"it": rng.choice(("it", "that one"))}
    )
    phrase = described(noun, color=hue if has_color else "")
    return routed("like", text, talk, "[DET]", phrase, talk.source.objects(phrase))


def like_color(rng: Random, split: Split, talk: Talk) -> Round | None:
    """Everything in the colour that was just spoken of."""
    if not talk.color:
        return None
    phrase = described("object", color=talk.color)
    text = asked(rng, split, _FILE, "like colour", {})
    return routed("like colour", text, talk, "[DET]", phrase, talk.source.objects(phrase))


def named_found(rng: Random, split: Split, talk: Talk) -> Round | None:
    """Boxes of all that a caption named, by its own words."""
    if not talk.named:
        return None
    text = asked(rng, split, _FILE, "named found", {})
    if text is None:
        return None
    return Round(
        kind="find named",
        text=text,
        reply=answer([("[DET]", name) for name in talk.named]),
        seen=talk.scene,
        talk=replace(talk, token="[DET]"),
        targets=(talk.world.target("[DET]", talk.scene, talk.named),),
    )


def named_one(rng: Random, split: Split, talk: Talk) -> Round | None:
    """The first or the last thing that a caption named."""
    if len(talk.named) < 2:
        return None
    end = rng.choice((0, -1))
    name, items = list(talk.named.items())[end]
    if len(items) != 1:
        return None
    ordinal = "last" if end else "first"
    forms = (
        "the {} thing you named",
        "the {} one that you named",
        "the {} of those you listed",
        "the {} one",
    )
    said = rng.choice(forms).format(ordinal)
    text = asked(rng, split, "dialogue", "one found", {"ref": said}, needs="ref")
    phrase = replace(described(items[0].shape, color=items[0].color), is_one=True)
    assert phrase.name == name
    return routed("find one named", text, talk, "[GRD]", phrase, items)


def mark(rng: Random, split: Split, talk: Talk) -> Round | None:
    """What another object is, which is marked now."""
    before = () if talk.focus is None else talk.focus.items
    others = [item for item in talk.scene.objects if not any(item is one for one in before)]
    return named_mark(rng, split, talk, rng.choice(others)) if others else None


def chat(rng: Random, split: Split, talk: Talk) -> Round | None:
    """A word between, which changes nothing."""
    section = rng.choice(_SMALL_TALK)
    for _ in range(8):
        template = draw(rng, "chat", split, section)
        found = filled(rng, template, "chat", split, talk.source)
        if "{" not in template.source and found is not None:
            return Round(kind="chat", text=found.text, reply=found.reply, seen=talk.scene, talk=talk)
    return None
