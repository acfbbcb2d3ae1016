"""What a conversation of several rounds is about, so that "them", "it" and "that colour" mean one thing.

A class that was found is "them"; one object, or a class with a single one, is "it". Where a round narrows
a class down without finding anything ("how many of them are large?"), "them" could be either, so the next
one has to say "the large ones".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from superlink.router.messages import Prompt
from superlink.workflows.data.instructions.answers import answer
from superlink.workflows.data.instructions.grammar import SLOT, Split, draw
from superlink.workflows.data.instructions.phrases import Phrase, described
from superlink.workflows.data.instructions.tasks import dressed, finished
from superlink.workflows.data.instructions.words import COLORS, SHAPES
from superlink.workflows.data.samples import Target
from superlink.workflows.data.scene_phrases import ScenePhrases, selected
from superlink.workflows.data.scene_tasks.world import World
from superlink.workflows.data.shapes import EXTREMES, Extreme, Scene, SceneObject

_DRAWS = 8
_IT = ("it", "it", "it", "that one", "this one", "that thing")
_THEM = ("them", "them", "them", "them all", "all of them", "these", "those", "all of these", "each of them")
# What an extreme is called in a meaning, and by a person.
_ONE: dict[Extreme, tuple[str, tuple[str, ...]]] = {
    "leftmost": ("left", ("leftmost", "leftmost", "far left")),
    "rightmost": ("right", ("rightmost", "rightmost", "far right")),
    "topmost": ("top", ("topmost", "highest", "uppermost")),
    "bottommost": ("bottom", ("bottommost", "lowest", "lowermost")),
    "largest": ("largest", ("largest", "biggest")),
    "smallest": ("smallest", ("smallest", "tiniest")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """What a follow-up means without naming it."""

    phrase: Phrase  # as answers call it: "red circle", "leftmost star", "region1"
    items: tuple[SceneObject, ...]
    said: str = ""  # what people must say where "them" would be unclear: "the large ones"

    @property
    def is_class(self) -> bool:
        """Found as a class, be there many, one or none."""
        return not self.phrase.is_one

    @property
    def is_region(self) -> bool:
        """A person has marked it; answers call it by the number of its prompt."""
        return self.phrase.is_one and self.phrase.meaning is None

    def them(self, rng: Random) -> str:
        """The class, or the one, as a person refers back to it."""
        if self.is_class:
            return self.said or rng.choice(_THEM)
        return rng.choice(_IT)


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What both sides know after some rounds."""

    world: World
    scene: Scene  # as it is now: edits change it
    can_change: bool = False  # clean, with few and large objects
    focus: Focus | None = None
    group: Phrase | None = None  # the class that was found last, "them" before one of them was chosen
    named: Mapping[str, Sequence[SceneObject]] = field(default_factory=dict)  # by a caption, in its order
    color: str = ""  # the colour that was last spoken of, if it was only one
    token: str = ""  # what the last round routed
    marks: int = 0  # prompts so far
    change: str = ""  # the kind of the last edit, if it is what the round before was about

    @property
    def source(self) -> ScenePhrases:
        """Phrases about the scene as it is now."""
        return ScenePhrases(self.scene)

    def about(self, phrase: Phrase, items: Sequence[SceneObject], **changes: object) -> Talk:
        """The same talk after a round about some objects."""
        known = replace(
            self,
            focus=Focus(phrase=phrase, items=tuple(items)),
            group=self.group if phrase.is_one else phrase,
            color=COLORS.get(phrase.color, "") or (self.color if phrase.is_one else ""),
            named={},
            change="",
        )
        return replace(known, **changes)  # type: ignore[arg-type]

    def target(self, token: str, phrase: Phrase, items: Sequence[SceneObject]) -> Target:
        """Boxes or masks of one phrase."""
        return self.world.target(token, self.scene, {phrase.name: items})


@dataclass(frozen=True, kw_only=True)
class Round:
    """A question, its answer and what both leave the talk at."""

    kind: str
    text: str
    reply: str
    seen: Scene  # what it was asked about
    talk: Talk
    targets: tuple[Target, ...] = ()
    prompts: tuple[Prompt, ...] = ()


def asked(
    rng: Random, split: Split, name: str, section: str, slots: Mapping[str, str], *, needs: str = ""
) -> str | None:
    """A random sentence of a section of a template file, its slots said by their forms.

    Args:
        needs: a form that the sentence must have; None where several draws have not.
    """
    for _ in range(_DRAWS):
        skeleton = dressed(rng, draw(rng, name, split, section), split)
        if not needs or f":{needs}" in skeleton:
            return finished(rng, SLOT.sub(lambda slot: slots[slot[2]], skeleton), split)
    return None


def routed(
    kind: str, text: str | None, talk: Talk, token: str, phrase: Phrase, items: Sequence[SceneObject]
) -> Round | None:
    """A round whose answer routes one phrase."""
    if text is None:
        return None
    return Round(
        kind=kind,
        text=text,
        reply=answer([(token, phrase.name)]),
        seen=talk.scene,
        talk=talk.about(phrase, items, token=token),
        targets=(talk.target(token, phrase, items),),
    )


def spoken(kind: str, text: str | None, talk: Talk, reply: str, after: Talk | None = None) -> Round | None:
    """A round that is answered in words."""
    if text is None:
        return None
    after = replace(after or talk, token="")
    return Round(kind=kind, text=text, reply=reply, seen=talk.scene, talk=after)


def one_of_them(rng: Random, talk: Talk) -> tuple[str, Focus] | None:
    """One of the class in focus that the scene singles out: how it is said, and what it is."""
    focus = talk.focus
    if focus is None or not focus.is_class or len(focus.items) < 2 or focus.phrase.meaning is None:
        return None
    meaning = focus.phrase.meaning
    sized: tuple[Extreme, ...] = ("largest", "smallest")
    for extreme in rng.sample(EXTREMES, len(EXTREMES)):
        item = talk.scene.superlative(extreme, focus.items)
        if item is None or (extreme in sized and meaning.size is not None):
            continue
        superlative, words = _ONE[extreme]
        word = rng.choice(words)
        them = focus.said or rng.choice(("them", "these", "those"))
        forms = [f"the {word} one of {them}", f"the {word} one among {them}"]
        forms += [f"the {word} of {them}"] * 2 if word.endswith("st") else []
        forms += [] if focus.said else [f"the {word} one"] * 2
        phrase = replace(
            focus.phrase,
            before=(word, *focus.phrase.before),
            superlative=word,
            is_one=True,
            meaning=replace(meaning, superlative=superlative),
        )
        return rng.choice(forms), Focus(phrase=phrase, items=(item,))
    return None


def it_or_one(rng: Random, talk: Talk) -> tuple[str, Focus] | None:
    """The one object in focus, or one of several."""
    focus = talk.focus
    if focus is None or len(focus.items) != 1:
        return one_of_them(rng, talk)
    return None if focus.said else (rng.choice(_IT), focus)


def described_one(talk: Talk, focus: Focus) -> Phrase | None:
    """A phrase in words for the one object in focus; None where a marked one has no like in words."""
    if not focus.is_region:
        return focus.phrase
    (item,) = focus.items
    phrase = described(item.shape, color=item.color)
    return replace(phrase, is_one=True) if only(talk.scene, phrase, item) else None


def kind_of(focus: Focus) -> tuple[str, str]:
    """(noun, colour) of the one object in focus, in the words that were used for it."""
    (item,) = focus.items
    noun = focus.phrase.noun if focus.phrase.noun in SHAPES else item.shape
    return noun, focus.phrase.color or item.color


def only(scene: Scene, phrase: Phrase, item: SceneObject) -> bool:
    """Whether a phrase means this object and no other."""
    assert phrase.meaning is not None
    found = selected(scene, phrase.meaning)
    return found is not None and [one.index for one in found] == [item.index]
