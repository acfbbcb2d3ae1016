"""Plain word lists: what people call shapes, colours, sizes and places; and words that mean nothing.

The left side of every mapping is a word a person may use, the right side is what it means in
the shapes world. Answers repeat the person's word; only targets use the meaning.
"""

from __future__ import annotations

from random import Random

SHAPES: dict[str, str] = {
    "circle": "circle",
    "disc": "circle",
    "disk": "circle",
    "dot": "circle",
    "ball": "circle",
    "square": "square",
    "triangle": "triangle",
    "star": "star",
    "heart": "heart",
    "ring": "ring",
    "donut": "ring",
    "hoop": "ring",
    "cross": "cross",
    "plus": "cross",
    "plus sign": "cross",
    "diamond": "diamond",
    "rhombus": "diamond",
    "person": "person",
    "man": "person",
    "human": "person",
    "figure": "person",
    "stick figure": "person",
}
# How often each is said, relative to its siblings of the same shape.
PLAIN_SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "ring",
    "cross",
    "diamond",
    "person",
)
GENERIC: tuple[str, ...] = ("thing", "object", "shape", "item")  # every object of the scene

COLORS: dict[str, str] = {
    "red": "red",
    "green": "green",
    "blue": "blue",
    "yellow": "yellow",
    "orange": "orange",
    "purple": "purple",
    "violet": "purple",
    "pink": "pink",
    "cyan": "cyan",
    "turquoise": "cyan",
    "brown": "brown",
    "black": "black",
    "white": "white",
    "grey": "gray",
    "gray": "gray",
}

SIZES: dict[str, str] = {
    "small": "small",
    "little": "small",
    "tiny": "small",
    "large": "large",
    "big": "large",
    "huge": "large",
}

# One object of many: the words before the noun, and the words after it.
SUPERLATIVES: dict[str, tuple[str, ...]] = {
    "left": ("leftmost", "leftmost", "left-most", "far left"),
    "right": ("rightmost", "rightmost", "right-most", "far right"),
    "top": ("topmost", "top", "uppermost", "highest"),
    "bottom": ("bottommost", "bottom", "lowest", "lowermost", "bottom-most"),
    "largest": ("largest", "biggest", "largest", "biggest", "very largest", "most massive"),
    "smallest": ("smallest", "smallest", "tiniest", "littlest", "very smallest"),
    "center": ("most central", "central", "middle"),
    "top left": ("top left", "upper left", "top-left"),
    "top right": ("top right", "upper right", "top-right"),
    "bottom left": ("bottom left", "lower left", "bottom-left"),
    "bottom right": ("bottom right", "lower right", "bottom-right"),
}
PLACES: dict[str, tuple[str, ...]] = {
    "left": (
        "on the left",
        "on the left",
        "on the far left",
        "furthest to the left",
        "farthest to the left",
        "to the left",
        "at the left edge",
        "closest to the left edge",
        "on the left side",
    ),
    "right": (
        "on the right",
        "on the right",
        "on the far right",
        "furthest to the right",
        "farthest to the right",
        "to the right",
        "at the right edge",
        "nearest the right edge",
        "on the right side",
    ),
    "top": (
        "at the top",
        "at the very top",
        "nearest the top",
        "closest to the top",
        "furthest up",
        "near the top edge",
        "highest up",
    ),
    "bottom": (
        "at the bottom",
        "at the very bottom",
        "nearest the bottom",
        "closest to the bottom",
        "furthest down",
        "near the bottom edge",
        "lowest down",
    ),
    "largest": (),
    "smallest": (),
    "center": (
        "closest to the centre",
        "closest to the center",
        "in the middle",
        "in the centre",
        "in the center",
        "nearest the middle",
        "nearest to the center",
        "at the centre of the picture",
    ),
    "top left": (
        "in the top left corner",
        "in the upper left",
        "at the top left",
        "in the upper left corner",
    ),
    "top right": (
        "in the top right corner",
        "in the upper right",
        "at the top right",
        "in the upper right corner",
    ),
    "bottom left": (
        "in the bottom left corner",
        "in the lower left",
        "at the bottom left",
        "in the lower left corner",
    ),
    "bottom right": (
        "in the bottom right corner",
        "in the lower right",
        "at the bottom right",
        "in the lower right corner",
    ),
}

# Several objects of one half of the picture.
HALVES: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "in the left half", "on the left-hand side"),
    "right": ("on the right", "on the right side", "in the right half", "on the right-hand side"),
    "top": ("at the top", "in the top half", "in the upper half", "in the upper part"),
    "bottom": ("at the bottom", "in the bottom half", "in the lower half", "in the lower part"),
}

IRREGULAR_PLURALS: dict[str, str] = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "sheep": "sheep",
    "fish": "fish",
    "deer": "deer",
    "moose": "moose",
    "dice": "dice",
    "aircraft": "aircraft",
    "leaf": "leaves",
    "knife": "knives",
    "wolf": "wolves",
    "shelf": "shelves",
    "loaf": "loaves",
    "scarf": "scarves",
    "half": "halves",
    "cactus": "cacti",
    "rhombus": "rhombuses",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "policeman": "policemen",
    "fireman": "firemen",
    "snowman": "snowmen",
    "ox": "oxen",
    "quiz": "quizzes",
    "photo": "photos",
    "roof": "roofs",
    "piano": "pianos",
}


def plural(noun: str) -> str:
    """The plural of a noun phrase whose last word is the head: "plus sign" → "plus signs"."""
    *rest, head = noun.split(" ")
    if head in IRREGULAR_PLURALS:
        head = IRREGULAR_PLURALS[head]
    elif head.endswith(("s", "x", "z", "ch", "sh")):
        head += "es"
    elif head.endswith("y") and len(head) > 1 and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "s"
    return " ".join((*rest, head))


def article(words: str) -> str:
    """The indefinite article of a phrase."""
    vowel = words[:1] in "aeiou" and not words.startswith(("uni", "use", "eu", "one"))
    return "an" if vowel or words.startswith(("hour", "x-ray", "honest")) else "a"


_ONSETS = "b c d f g h k l m n p r t v w z br dr fl gr kr pl sn st tr th"
_VOWELS = "a e i o u oo ee ai"
_CODAS = " b d g k l m n p r t"


def invented(rng: Random) -> str:
    """A word that means nothing: "brafto"."""
    syllables = rng.randrange(2, 4)
    onsets, vowels = rng.choices(_ONSETS.split(), k=syllables), rng.choices(_VOWELS.split(), k=syllables)
    word = "".join(onset + vowel for onset, vowel in zip(onsets, vowels, strict=True))
    return word + (rng.choice(_CODAS).strip() if rng.random() < 0.7 else "")
