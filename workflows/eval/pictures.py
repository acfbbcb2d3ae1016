"""Scores of made and edited pictures, by the judge that measures colours and shapes from pixels.

What was asked for is what the judge sees in a reference picture that shows it, so a sample is its
pictures alone; a reference that the judge cannot read is left out and not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from superlink.workflows.eval.judge import Seen, background_color, see
from superlink.workflows.eval.judge.regions import AROUND, Flags, ground_of
from superlink.workflows.eval.report import Metric, share

Pixels = NDArray[np.uint8]  # (H, W, 3)
EditKind = Literal["recolor", "remove", "add", "background"]
EDIT_KINDS: tuple[EditKind, ...] = ("recolor", "remove", "add", "background")
MOST_CHANGE = 0.04  # mean absolute error of what should stay, of the range of a channel
_DIFFERS = 10  # grey levels; compression of both pictures stays below
_MARGIN = 3  # pixels around what differs that may differ too
_LEFT_OVER = 0.15  # of a removed thing's pixels
_NUMBERS = {1: "one object", 2: "two objects"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskedEdit:
    """What an edit should do, and where."""

    kind: EditKind
    before: Pixels
    after: Pixels  # one right result
    thing: Seen | None  # in `after`; for "remove" in `before`; None for "background"
    others: tuple[Seen, ...]  # things that should stay
    paper: str  # asked colour of the background, for "background"
    place: Flags  # (H, W) pixels that differ between the two

    @property
    def kept(self) -> Flags:
        """(H, W) what should stay as it is."""
        return ~binary_dilation(self.place, AROUND, iterations=_MARGIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """What became of an edit."""

    kind: EditKind
    made: bool  # whether the asked change is there
    change: float  # mean absolute error of the rest, in [0, 1]
    lost: int = 0  # other things that are gone, which a mean over all of the background would hide

    @property
    def is_close(self) -> bool:
        """Whether the change was made and the rest is the same on the whole."""
        return self.made and self.change <= MOST_CHANGE

    @property
    def is_right(self) -> bool:
        """Whether, besides, every other thing is still there."""
        return self.is_close and not self.lost


def names_seen(pixels: Pixels) -> list[str]:
    """Names such as "red circle" of everything that the judge recognises, largest first."""
    return [seen.name for seen in see(pixels) if seen.is_recognised]


def names_asked(reference: Pixels) -> list[str]:
    """The names of everything in a reference picture; empty where the judge does not recognise all of it."""
    found = see(reference)
    return [seen.name for seen in found] if all(seen.is_recognised for seen in found) else []


def shows(made: Pixels | None, asked: Sequence[str]) -> bool:
    """Whether a picture shows every asked thing, each as often as it was asked for; more is no fault."""
    return made is not None and not Counter(asked) - Counter(names_seen(made))


def generation(made: Sequence[Pixels | None], asked: Sequence[Sequence[str]]) -> list[Metric]:
    """Share of pictures that show every asked thing, by the number of things.

    Args:
        made: what came, None where nothing did.
        asked: for each picture the names of its things, as "red circle"; one without names is left out.

    Raises:
        ValueError: another number of pictures came than was asked for.
    """
    _paired(len(made), len(asked))
    right: dict[int, list[bool]] = {}
    for pixels, names in zip(made, asked, strict=True):
        if names:
            right.setdefault(len(names), []).append(shows(pixels, names))
    return [
        share("generation", f"{_NUMBERS.get(count, f'{count} objects')}, shape and colour", right[count])
        for count in sorted(right)
    ]


def asked_edit(kind: EditKind, before: Pixels, after: Pixels) -> AskedEdit | None:
    """An edit as one right result shows it; None where the judge cannot read it, or sees it done already.

    Args:
        kind: "recolor", "remove", "add" or "background".
        before: (H, W, 3).
        after: (H, W, 3) of the same size.

    Raises:
        ValueError: two sizes.
    """
    if before.shape != after.shape:
        raise ValueError(f"a picture of shape {before.shape} cannot become one of {after.shape}")
    differs = np.abs(after.astype(np.int16) - before).max(axis=2) > _DIFFERS
    thing = None
    if kind != "background":
        thing = _seen_at(before if kind == "remove" else after, differs)
        if thing is None:
            return None
    right = see(after)
    others = tuple(seen for seen in see(before) if seen.is_recognised and _is_there(seen, right))
    asked = AskedEdit(
        kind=kind,
        before=before,
        after=after,
        thing=thing,
        others=others,
        paper=background_color(after),
        place=differs,
    )
    return asked if judged(asked, after).made and not judged(asked, before).made else None


def judged(asked: AskedEdit, made: Pixels | None) -> Edited:
    """Whether an edit was made and how much the rest changed.

    Args:
        asked: the edit.
        made: the result, of any size; None where nothing came.
    """
    if made is None:
        return Edited(kind=asked.kind, made=False, change=1.0)
    if made.shape != asked.before.shape:
        height, width = asked.before.shape[:2]
        made = np.asarray(Image.fromarray(made).resize((width, height), Image.Resampling.BICUBIC))
    kept = asked.kept
    found = see(made)
    lost = sum(not _is_there(other, found) for other in asked.others)
    if asked.kind == "background":
        done = background_color(made) == asked.paper
        return Edited(kind=asked.kind, made=done, change=_change(asked, made, kept), lost=lost)
    assert asked.thing is not None
    if asked.kind == "remove":
        done = _is_gone(asked.thing, made, asked.after)
    elif asked.kind == "recolor":
        done = _is_among(asked.thing, found)
    else:
        new = _added(asked, asked.thing, made)
        done = new is not None
        if new is not None:  # where in the named corner it stands is free
            kept = kept & ~binary_dilation(new.mask, AROUND, iterations=_MARGIN)
    return Edited(kind=asked.kind, made=done, change=_change(asked, made, kept), lost=lost)


def edits(asked: Sequence[AskedEdit], made: Sequence[Pixels | None]) -> list[Metric]:
    """For every kind, the share of edits made with nothing lost and the rest unchanged on the whole.

    Beside it the shares of those whose rest is unchanged on the whole, and of all that were made.

    Raises:
        ValueError: another number of pictures came than was asked for.
    """
    _paired(len(made), len(asked))
    results = [judged(one, pixels) for one, pixels in zip(asked, made, strict=True)]
    metrics = []
    for kind in EDIT_KINDS:
        of_kind = [result for result in results if result.kind == kind]
        if of_kind:
            metrics.append(share("edits", kind, [result.is_right for result in of_kind]))
            within = f"{kind}, rest within {MOST_CHANGE}"
            metrics.append(share("edits", within, [result.is_close for result in of_kind]))
            metrics.append(share("edits", f"{kind}, change made", [result.made for result in of_kind]))
    if results:
        change = sum(result.change for result in results) / len(results)
        metrics.append(Metric(group="edits", name="change of the rest", value=change, count=len(results)))
    return metrics


def _paired(made: int, asked: int) -> None:
    if made != asked:
        raise ValueError(f"{asked} pictures were asked for but {made} came")


def _change(asked: AskedEdit, made: Pixels, kept: Flags) -> float:
    if not kept.any():
        return 0.0
    return float(np.abs(made[kept].astype(np.float32) - asked.before[kept]).mean()) / 255


def _seen_at(pixels: Pixels, place: Flags) -> Seen | None:
    """The recognised thing that lies in `place` most."""
    found = [seen for seen in see(pixels) if seen.is_recognised]
    inside = [np.count_nonzero(seen.mask & place) / seen.area for seen in found]
    best = int(np.argmax(inside)) if found else -1
    return found[best] if found and inside[best] >= 0.6 else None


def _same(seen: Seen, thing: Seen) -> bool:
    return seen.is_recognised and seen.name == thing.name


def _is_among(thing: Seen, found: Sequence[Seen]) -> bool:
    """Whether a thing of that shape and colour is seen in its place."""
    return any(_same(seen, thing) and _overlap(seen, thing) >= 0.5 for seen in found)


def _is_there(thing: Seen, found: Sequence[Seen]) -> bool:
    """Whether something of its colour is in its place; a small one may have lost its corners."""
    return any(seen.color == thing.color and _overlap(seen, thing) >= 0.5 for seen in found)


def _overlap(seen: Seen, thing: Seen) -> float:
    return np.count_nonzero(seen.mask & thing.mask) / np.count_nonzero(seen.mask | thing.mask)


def _is_gone(thing: Seen, made: Pixels, after: Pixels) -> bool:
    """Whether nothing stands out where the thing was but what stands there without it."""
    behind = binary_dilation(ground_of(after).front, AROUND, iterations=2)
    left = thing.mask & ground_of(made).front & ~behind
    return bool(np.count_nonzero(left) <= _LEFT_OVER * np.count_nonzero(thing.mask & ~behind))


def _added(asked: AskedEdit, thing: Seen, made: Pixels) -> Seen | None:
    """A new thing of that name on the same side of the picture, or in the middle, as in `after`."""
    old = [seen for seen in see(asked.before) if _same(seen, thing)]
    height, width = thing.mask.shape
    for seen in see(made):
        is_new = _same(seen, thing) and all(_overlap(seen, other) < 0.5 for other in old)
        places = zip(seen.center, thing.center, (width, height), strict=True)
        if is_new and all(_is_on_side(at / side, meant / side) for at, meant, side in places):
            return seen
    return None


def _is_on_side(at: float, meant: float) -> bool:
    """0.44 and 0.56 are where the scenes stop saying "left" and "right"."""
    if meant < 0.44:
        return at < 0.5
    return at > 0.5 if meant > 0.56 else 0.25 < at < 0.75
