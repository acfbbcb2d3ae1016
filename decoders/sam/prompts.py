"""What a mask is asked for with, besides its link: boxes, clicks and masks in pixels of the picture.

A call brings them as artifacts among its `inputs`: from the decoder that answered first, from an
earlier round, or from the person. Without any, every link of the call asks for one mask.

Axes: P points of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from superlink.decoders.artifacts import BoolArray, Boxes, Keypoints, Masks
from superlink.decoders.contract import Call
from superlink.decoders.letterbox import Size
from superlink.router.errors import InputError

INSIDE, OUTSIDE = "inside", "outside"  # keypoint names of clicks


def _no_points() -> NDArray[np.float64]:
    return np.zeros((0, 2))


def _no_flags() -> BoolArray:
    return np.zeros(0, dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskPrompt:
    """One mask that is asked for."""

    label: int  # link of the call
    points: NDArray[np.float64] = field(default_factory=_no_points)  # (P, 2) x, y
    inside: BoolArray = field(default_factory=_no_flags)  # (P,) whether the point is on the thing
    box: NDArray[np.float64] | None = None  # (4,) xyxy
    mask: BoolArray | None = None  # (H, W)
    score: float = 1.0  # how sure whoever gave the prompt was

    @property
    def link_alone(self) -> bool:
        return len(self.points) == 0 and self.box is None and self.mask is None


def clicks(
    inside: Sequence[tuple[float, float]],
    outside: Sequence[tuple[float, float]] = (),
    *,
    size: Size,
    name: str = "",
) -> Keypoints:
    """Clicks on one thing, and beside it, as an artifact for `Call.inputs`.

    Together with boxes or masks of one item they refine that item.

    Args:
        inside: x, y of clicks on the thing.
        outside: x, y of clicks that its mask must leave out.
        size: (height, width) of the picture.
        name: phrase of the link that they belong to; "" where there is one.

    Raises:
        InputError: no click.
    """
    if not inside and not outside:
        raise InputError("a click prompt needs at least one point, got none")
    points = np.array([*inside, *outside], dtype=np.float32).reshape(-1, 2)
    return Keypoints(
        xyv=np.concatenate([points, np.full((len(points), 1), 2, np.float32)], 1)[None],
        keypoint_names=(INSIDE,) * len(inside) + (OUTSIDE,) * len(outside),
        xyxy=np.tile(points[0], 2)[None],
        scores=np.ones(1, np.float32),
        labels=np.zeros(1, np.int64),
        names=(name,),
        size=size,
    )


def prompts_of(call: Call) -> list[MaskPrompt]:
    """The masks that a call asks for, in pixels of its picture.

    One for each item of the boxes, masks and keypoints among its inputs; masks come with their
    box, keypoints with the visible points and, where it has an area, the box. Clicks refine the
    boxes or masks that have as many items, item by item, unless those have other phrases. An item
    belongs to the link of its phrase; where no link has that phrase, to the only link, or to the
    links in their order.

    Raises:
        InputError: an input lies outside the picture, belongs to a picture of another size, is
            empty, holds numbers that are not finite, or could belong to any of several links.
    """
    assert call.image is not None
    size: Size = (call.image.shape[0], call.image.shape[1])
    given = [one for one in call.inputs if isinstance(one, (Boxes, Masks, Keypoints))]
    if not given:
        return [MaskPrompt(label=label) for label in range(len(call.links))]
    groups: list[list[MaskPrompt]] = []
    owners: list[list[int | None]] = []
    phrases: list[tuple[str, ...]] = []
    for one in sorted(given, key=_are_clicks):
        if one.size != size:
            raise InputError(
                f"call {call.id!r}: {type(one).__name__} of a picture of {one.size[1]} x {one.size[0]} "
                f"pixels, the picture has {size[1]} x {size[0]}"
            )
        prompts = [_prompt(one, item, call.id) for item in range(len(one))]
        refined = _refined_by(one.phrases, groups, phrases) if _are_clicks(one) else None
        if refined is None:
            groups.append(prompts)
            phrases.append(one.phrases)
            owners.append([_owner(one, item, call) for item in range(len(one))])
        else:
            groups[refined] = [
                replace(old, points=new.points, inside=new.inside)
                for old, new in zip(groups[refined], prompts, strict=True)
            ]
    return _labelled(
        [prompt for group in groups for prompt in group], [one for group in owners for one in group], call
    )


def _are_clicks(artifact: Boxes | Masks | Keypoints) -> bool:
    return isinstance(artifact, Keypoints) and set(artifact.keypoint_names) <= {INSIDE, OUTSIDE}


def _refined_by(
    clicked: Sequence[str], groups: Sequence[Sequence[MaskPrompt]], phrases: Sequence[Sequence[str]]
) -> int | None:
    """The first group of as many prompts that has no points yet and is not called otherwise."""
    for index, (group, called) in enumerate(zip(groups, phrases, strict=True)):
        if len(group) != len(clicked) or any(len(prompt.points) for prompt in group):
            continue
        if all(new in ("", old) for new, old in zip(clicked, called, strict=True)):
            return index
    return None


def _owner(artifact: Boxes | Masks | Keypoints, item: int, call: Call) -> int | None:
    """The link whose phrase an item has."""
    label = int(artifact.labels[item])
    if artifact.names == call.names:
        return label
    phrase = artifact.names[label]
    return call.names.index(phrase) if phrase in call.names else None


def _labelled(prompts: list[MaskPrompt], owners: Sequence[int | None], call: Call) -> list[MaskPrompt]:
    nameless = sum(owner is None for owner in owners)
    links = len(call.links)
    if nameless and links > 1 and nameless != links:
        raise InputError(
            f"call {call.id!r}: {nameless} of {len(prompts)} inputs have none of the phrases "
            f"{', '.join(map(repr, call.names))}; name them, or give one for each"
        )
    order = iter(range(links)) if links > 1 else iter([0] * nameless)
    return [
        replace(prompt, label=next(order) if owner is None else owner)
        for prompt, owner in zip(prompts, owners, strict=True)
    ]


def _prompt(artifact: Boxes | Masks | Keypoints, item: int, call_id: str) -> MaskPrompt:
    score = float(np.clip(artifact.scores[item], 0.0, 1.0))
    if isinstance(artifact, Keypoints):
        return _point_prompt(artifact, item, call_id, score)
    box = _checked_box(artifact.xyxy[item], artifact.size, call_id)
    if isinstance(artifact, Boxes):
        return MaskPrompt(label=0, box=box, score=score)
    mask = artifact.masks[item]
    if mask.shape != artifact.size:
        raise InputError(
            f"call {call_id!r}: a mask of shape {mask.shape} for a picture of shape {artifact.size}"
        )
    if not mask.any():
        raise InputError(f"call {call_id!r}: a mask prompt needs at least one pixel, got an empty mask")
    return MaskPrompt(label=0, box=box, mask=mask, score=score)


def _point_prompt(artifact: Keypoints, item: int, call_id: str, score: float) -> MaskPrompt:
    height, width = artifact.size
    xyv = artifact.xyv[item].astype(np.float64)
    visible = xyv[:, 2] > 0
    points = xyv[visible, :2]
    if not np.isfinite(xyv[:, 2]).all() or not np.isfinite(points).all():
        raise InputError(f"call {call_id!r}: a point prompt holds numbers that are not finite")
    outside = (points < 0).any(1) | (points > (width, height)).any(1)
    if outside.any():
        x, y = points[outside][0]
        raise InputError(
            f"call {call_id!r}: point ({x:g}, {y:g}) lies outside the picture of {width} x {height} pixels"
        )
    box = _checked_box(artifact.xyxy[item], artifact.size, call_id)
    wide = bool((box[2:] > box[:2]).all()) and not _are_clicks(artifact)
    if not len(points) and not wide:
        raise InputError(f"call {call_id!r}: an item without visible keypoints and without a box")
    names = np.array(artifact.keypoint_names)[visible]
    return MaskPrompt(label=0, points=points, inside=names != OUTSIDE, box=box if wide else None, score=score)


def _checked_box(xyxy: NDArray[np.floating], size: Size, call_id: str) -> NDArray[np.float64]:
    """A box cut at the edges of the picture."""
    height, width = size
    box = np.asarray(xyxy, dtype=np.float64)
    words = "box (" + ", ".join(f"{value:g}" for value in box) + ")"
    if not np.isfinite(box).all():
        raise InputError(f"call {call_id!r}: {words} holds numbers that are not finite")
    x0, y0, x1, y1 = box
    if x0 > x1 or y0 > y1:
        raise InputError(f"call {call_id!r}: {words} is inside out; expected left <= right, top <= bottom")
    if x1 < 0 or y1 < 0 or x0 > width or y0 > height:
        raise InputError(f"call {call_id!r}: {words} lies outside the picture of {width} x {height} pixels")
    return box.clip(0, (width, height, width, height))
