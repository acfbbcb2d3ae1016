"""Phrases about one scene, and the objects that they select.

A phrase is used only where the scene settles it: a size word where no candidate lies between two
sizes, a half where none straddles the middle, a superlative where the winner leads by a margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from superlink.workflows.data.instructions.grammar import word_list
from superlink.workflows.data.instructions.phrases import Meaning, Phrase, described
from superlink.workflows.data.instructions.vocabulary import open_phrase, sibling, singled_out
from superlink.workflows.data.instructions.words import COLORS, GENERIC, HALVES, SHAPES, SIZES, SUPERLATIVES
from superlink.workflows.data.shapes import Extreme, Scene, SceneObject

_EXTREMES: dict[str, Extreme] = {
    "left": "leftmost",
    "right": "rightmost",
    "top": "topmost",
    "bottom": "bottommost",
    "largest": "largest",
    "smallest": "smallest",
}
_TARGETS: dict[str, tuple[float, float]] = {  # in sides of the picture
    "center": (0.5, 0.5),
    "top left": (0.0, 0.0),
    "top right": (1.0, 0.0),
    "bottom left": (0.0, 1.0),
    "bottom right": (1.0, 1.0),
}
_DISTANCE_MARGIN = 0.12  # sides by which the object nearest to a corner or the centre must lead
_CENTRAL = 0.3  # sides from the centre within which something may be called central
ABSENT = 0.22  # share of classes made to be absent; siblings and open words add to it


def selected(scene: Scene, meaning: Meaning) -> list[SceneObject] | None:
    """What a phrase with this meaning selects; None where the scene does not settle it."""
    found = list(scene.select(shape=meaning.shape, color=meaning.color))
    if meaning.size is not None:
        if any(item.size is None for item in found):
            return None
        found = [item for item in found if item.size == meaning.size]
    if meaning.half is not None:
        sides = [item.column if meaning.half in ("left", "right") else item.row for item in found]
        if None in sides:
            return None
        found = [item for item, side in zip(found, sides, strict=True) if side == meaning.half]
    if meaning.superlative is not None and found:
        winner = _winner(scene, meaning.superlative, found)
        return None if winner is None else [winner]
    return found


def _winner(scene: Scene, superlative: str, among: Sequence[SceneObject]) -> SceneObject | None:
    if superlative in _EXTREMES:
        return scene.superlative(_EXTREMES[superlative], among)
    goal = _TARGETS[superlative]

    def distance(item: SceneObject) -> float:
        x, y = item.center
        return math.hypot(x / scene.width - goal[0], y / scene.height - goal[1])

    ranked = sorted(among, key=distance)
    best = ranked[0]
    if len(ranked) > 1 and distance(ranked[1]) - distance(best) < _DISTANCE_MARGIN:
        return None
    if superlative == "center":
        return best if distance(best) < _CENTRAL else None
    row, column = superlative.split(" ")
    return best if (best.row, best.column) == (row, column) else None


class ScenePhrases:
    """Phrases for one scene: present classes, and absent ones that are hard to tell apart.

    Args:
        scene: the scene that the phrases speak of.
        is_open: speak of things that the shapes world does not have; they select nothing.
    """

    def __init__(self, scene: Scene, *, is_open: bool = False) -> None:
        self.scene = scene
        self.is_open = is_open

    def classes(self, rng: Random, count: int) -> list[Phrase]:
        """`count` different phrases; about a third of them select nothing here."""
        found: dict[str, Phrase] = {}
        while len(found) < count:
            if found and not self.is_open and rng.random() < 0.15:
                phrase = sibling(rng, rng.choice(list(found.values())))
            else:
                phrase = self._open(rng) if self.is_open else self._class(rng)
            found.setdefault(phrase.name, phrase)
        return list(found.values())

    def one(self, rng: Random) -> Phrase | None:
        """One object that a superlative or place singles out, most often among several."""
        if self.is_open:
            return singled_out(rng, self._open(rng), rng.choice(tuple(SUPERLATIVES)))
        wants_several = rng.random() < 0.8
        for _ in range(12):
            phrase = self._wide_class(rng)
            if len(self.objects(phrase)) < (2 if wants_several else 1):
                continue
            found = self.one_of(rng, [phrase])
            if found is not None:
                return found[0]
        return None

    def one_of(self, rng: Random, phrases: Sequence[Phrase]) -> tuple[Phrase, str] | None:
        """One object of some classes that some superlative settles."""
        phrase = phrases[0] if len(phrases) == 1 else described("object")
        if phrase.meaning is None:
            superlative = rng.choice(tuple(SUPERLATIVES))
            return singled_out(rng, phrase, superlative), superlative
        among = {item.index for one in phrases for item in self.objects(one)}
        for superlative in rng.sample(tuple(SUPERLATIVES), len(SUPERLATIVES)):
            single = singled_out(rng, phrase, superlative)
            if self._settles(single, superlative) and self.objects(single)[0].index in among:
                return single, superlative
        return None

    def objects(self, phrase: Phrase) -> list[SceneObject]:
        """What a phrase of this source selects; empty for things outside the shapes world."""
        return [] if phrase.meaning is None else selected(self.scene, phrase.meaning) or []

    def _settles(self, single: Phrase, superlative: str) -> bool:
        """Whether the scene has exactly one such object, and its place fits the words."""
        winners = self.objects(single)
        if not winners:
            return False
        if single.after and superlative in HALVES:  # "on the left" is said of the left half only
            side = winners[0].column if superlative in ("left", "right") else winners[0].row
            return side == superlative
        return True

    def _class(self, rng: Random) -> Phrase:
        wants_absent = rng.random() < ABSENT
        for _ in range(20):
            phrase = self._absent(rng) if wants_absent else self._present(rng)
            meaning = phrase.meaning
            if meaning is not None and selected(self.scene, meaning) is not None:
                return phrase
        item = rng.choice(self.scene.objects)
        return described(said_shape(rng, item.shape), color=said_color(rng, item.color))

    def _present(self, rng: Random) -> Phrase:
        item = rng.choice(self.scene.objects)
        kind = rng.random()
        noun = rng.choice(GENERIC) if 0.78 < kind < 0.86 else said_shape(rng, item.shape)
        color = said_color(rng, item.color) if kind < 0.60 or 0.78 < kind < 0.93 else ""
        size = said_size(rng, item.size) if kind > 0.86 else ""
        sides = [side for side in (item.column, item.row) if side is not None]
        half = rng.choice(sides) if sides and rng.random() < 0.06 else ""
        if 0.60 < kind < 0.63:
            noun, half = rng.choice(GENERIC), ""
        return described(
            noun, color=color, size=size, half=half, after=rng.choice(HALVES[half]) if half else ""
        )

    def _absent(self, rng: Random) -> Phrase:
        """Right colour and wrong shape, right shape and wrong colour, wrong size, or all wrong."""
        item = rng.choice(self.scene.objects)
        kind = rng.random()
        shape, color, size = item.shape, item.color, ""
        if kind < 0.42:
            shape = rng.choice([name for name in set_of(SHAPES) if name != item.shape])
        elif kind < 0.84:
            color = rng.choice([name for name in set_of(COLORS) if name != item.color])
        elif kind < 0.92 and item.size is not None:
            size = "small" if item.size == "large" else "large"
        else:
            shape, color = rng.choice(set_of(SHAPES)), rng.choice(set_of(COLORS))
        colorless = kind < 0.42 and rng.random() < 0.25
        return described(
            said_shape(rng, shape),
            color="" if colorless else said_color(rng, color),
            size=said_size(rng, size or None),
        )

    def _wide_class(self, rng: Random) -> Phrase:
        """A class that often holds several objects, to choose one of."""
        item = rng.choice(self.scene.objects)
        kind = rng.random()
        if kind < 0.5:
            return described(said_shape(rng, item.shape))
        if kind < 0.7:
            return described(said_shape(rng, item.shape), color=said_color(rng, item.color))
        color = said_color(rng, item.color) if kind < 0.85 else ""
        return described(rng.choice(GENERIC), color=color)

    def _open(self, rng: Random) -> Phrase:
        """Something that no shape of the scene could be taken for."""
        while True:
            phrase = open_phrase(rng)
            if not set(phrase.noun.split(" ")) & set(word_list("ambiguous")):
                return phrase


def set_of(words: dict[str, str]) -> list[str]:
    """The different meanings of a word list, in order."""
    return list(dict.fromkeys(words.values()))


def said_shape(rng: Random, shape: str) -> str:
    """A word for a shape, the plain one most often."""
    return shape if rng.random() < 0.72 else _word_for(rng, SHAPES, shape)


def said_color(rng: Random, color: str) -> str:
    return color if color != "gray" and rng.random() < 0.85 else _word_for(rng, COLORS, color)


def said_size(rng: Random, size: str | None) -> str:
    """A word for a size; "" for none or the middle one."""
    return "" if size not in ("small", "large") else _word_for(rng, SIZES, size)


def _word_for(rng: Random, words: dict[str, str], meaning: str) -> str:
    return rng.choice([word for word, meant in words.items() if meant == meaning])
