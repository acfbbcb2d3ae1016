"""Visual prompts as inputs of decoder calls: what "region1" of a question means to a promptable decoder.

The router reads a prompt through its region encoder; a promptable decoder, such as Segment Anything,
takes the click or the box itself. Regions are numbered through a whole conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, tight_boxes
from superlink.decoders.sam.prompts import clicks
from superlink.router.errors import InputError
from superlink.router.messages import Box, Message, Point, Prompt, Scribble
from superlink.router.prompts import prompt_mask

Region = Boxes | Masks | Keypoints

SCRIBBLE_CLICKS = 4  # a line counts as at most so many clicks, evenly along it


def region_names(messages: Sequence[Message], count: int) -> tuple[str, ...]:
    """What the encoder will call the next `count` prompts after `messages`: "region3", "region4"."""
    first = 1 + sum(len(message.prompts) for message in messages)
    return tuple(f"region{number}" for number in range(first, first + count))


def region_name(phrase: str) -> str:
    """The name of the region that a phrase may be: "region1" for "Region 1"."""
    return "".join(phrase.lower().split())


def region_input(prompt: Prompt, name: str, size: tuple[int, int]) -> Region:
    """A prompt as an artifact of one item called `name`.

    Args:
        prompt: in pixels of the picture.
        name: of the region.
        size: (height, width) of the picture.

    Returns:
        Clicks for points and scribbles, a box for a box, a mask for a mask.

    Raises:
        InputError: the prompt does not lie on the picture.
    """
    mask = prompt_mask(prompt, size)
    height, width = size
    if isinstance(prompt, Point):
        return clicks([(prompt.x, prompt.y)], size=size, name=name)
    if isinstance(prompt, Scribble):
        line = _along(prompt.points, SCRIBBLE_CLICKS)
        inside = [(min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)) for x, y in line]
        return clicks(inside, size=size, name=name)
    row: dict[str, Any] = {"scores": np.ones(1, np.float32), "labels": np.zeros(1, np.int64)}
    if isinstance(prompt, Box):
        corners = np.array([[prompt.x0, prompt.y0, prompt.x1, prompt.y1]], np.float32)
        return Boxes(xyxy=corners.clip(0, (width, height, width, height)), **row, names=(name,), size=size)
    return Masks(masks=mask[None], xyxy=tight_boxes(mask[None]), **row, names=(name,), size=size)


def region_of(phrase: str, regions: Mapping[str, Region]) -> Region | None:
    """The region that a phrase names, called as it says: "region1", "Region 1"; None for other words."""
    found = regions.get(region_name(phrase))
    return None if found is None else replace(found, names=(phrase,))


def prompted_inputs(
    phrases: Sequence[str], regions: Mapping[str, Region], refs: Sequence[Artifact]
) -> tuple[Artifact, ...]:
    """Inputs of a call for `phrases`: the prompts that some of them are, refined by earlier results.

    Where all phrases are regions, boxes and masks among `refs` are what the prompts refine, item by
    item: a click goes with the mask that it corrects, a new box replaces that of the mask.

    Raises:
        InputError: there are not as many items as regions.
    """
    found = {phrase: region_of(phrase, regions) for phrase in phrases}
    prompted = {phrase: region for phrase, region in found.items() if region is not None}
    earlier = [one for one in refs if isinstance(one, Boxes | Masks)]
    if not earlier or len(prompted) < len(found):
        return tuple(prompted.values())
    items = [one.select([row]) for one in earlier for row in range(len(one))]
    if len(items) != len(prompted):
        raise InputError(
            f"{len(prompted)} regions ({', '.join(prompted)}) cannot refine {len(items)} earlier results; "
            f"pass one of refs for each, as in refs=[turn.masks.select([0])]"
        )
    return tuple(
        one
        for (phrase, region), old in zip(prompted.items(), items, strict=True)
        for one in _refined(region, replace(old, names=(phrase,), labels=np.zeros(1, np.int64)))
    )


def _refined(region: Region, old: Boxes | Masks) -> tuple[Artifact, ...]:
    if isinstance(region, Keypoints):
        return old, region
    if isinstance(region, Boxes) and isinstance(old, Masks):
        return (replace(old, xyxy=region.xyxy),)
    return (region,)


def _along(points: Sequence[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """At most `count` of the points of a line, as evenly along it as they stand.

    Only places where the pen was: straight lines between a few of them may leave the thing.
    """
    corners = np.asarray(points, np.float64)
    walked = np.concatenate([[0.0], np.hypot(*np.diff(corners, axis=0).T).cumsum()])
    at = walked[-1] * (np.arange(count) + 0.5) / count
    nearest = np.abs(walked[None] - at[:, None]).argmin(1)
    return [points[row] for row in dict.fromkeys(nearest.tolist())]
