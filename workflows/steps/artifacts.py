"""Steps on pictures and on what was found in them. They ask nobody and cost little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture
from superlink.router.errors import InputError
from superlink.workflows.graph.context import StepContext
from superlink.workflows.graph.definition import Port, Step
from superlink.workflows.graph.image import Image, uncropped
from superlink.workflows.graph.policies import Policies, PolicyOptions, policies_with
from superlink.workflows.graph.port_types import ITEMS, PortType
from superlink.workflows.steps.flow import skips
from superlink.workflows.steps.merging import merged, nothing

Items = Boxes | Masks | Keypoints

_IMAGE = Port(name="image", type=Image)
_ITEMS = Port(name="items", type=ITEMS)

# What to sort by, and whether the largest comes first; coordinates are those of centres.
_ORDERS = {
    "best": ("score", True),
    "worst": ("score", False),
    "largest": ("area", True),
    "smallest": ("area", False),
    "leftmost": ("x", False),
    "rightmost": ("x", True),
    "topmost": ("y", False),
    "bottommost": ("y", True),
}


def crop(*, scale: float = 1.0, margin: int = 0, **options: Unpack[PolicyOptions]) -> Step:
    """One picture for every box, mask or instance; each knows where it was cut from.

    Args:
        scale: sides of the crop in sides of the box, around its centre.
        margin: further pixels at every side.
        **options: policies.
    """
    _check("scale", scale, least=0.01)
    _check("margin", margin, least=0)

    def run(image: Image, items: Items) -> list[Image]:
        _same_picture(image, items)
        return [
            image.crop(*_rounded(box, scale, margin), index=index) for index, box in enumerate(items.xyxy)
        ]

    ports = (_IMAGE, _ITEMS)
    return _step("crop", ports, run, Image, options, {"scale": scale, "margin": margin}, opens=True)


def uncrop(**options: Unpack[PolicyOptions]) -> Step:
    """What was found in a crop, in pixels of the picture that it was cut from: `uncrop()(found, crop)`."""
    ports = (_ITEMS, Port(name="crop", type=Image))
    return _step("uncrop", ports, uncropped, None, options)


def filter(
    *,
    score: float = 0.0,
    phrase: str | None = None,
    least: float = 0.0,
    most: float = 1.0,
    **options: Unpack[PolicyOptions],
) -> Step:
    """The items of one artifact that are good enough.

    Args:
        score: least score.
        phrase: only what is called so.
        least: smallest area of a box, in areas of the picture.
        most: largest area.
        **options: policies.
    """
    for name, value in (("score", score), ("least", least), ("most", most)):
        _check(name, value, least=0, most=1)

    def run(items: Items) -> Items:
        share = _areas(items) / max(1, items.size[0] * items.size[1])
        keep = (items.scores >= score) & (share >= least) & (share <= most)
        if phrase is not None:
            keep &= np.asarray([name == phrase for name in items.phrases], np.bool_)
        return items.select(keep)

    parameters = {"score": score, "phrase": phrase, "least": least, "most": most}
    return _step("filter", (_ITEMS,), run, None, options, parameters)


def select(which: str = "best", *, count: int = 1, **options: Unpack[PolicyOptions]) -> Step:
    """The first items by score, size or position: "best", "largest", "leftmost" and their opposites.

    Args:
        which: "best", "worst", "largest", "smallest", "leftmost", "rightmost", "topmost", "bottommost".
        count: at most so many.
        **options: policies.
    """
    if which not in _ORDERS:
        raise InputError(f"select one of {', '.join(_ORDERS)}, got {which!r}")
    _check("count", count, least=1)
    by, descending = _ORDERS[which]

    def run(items: Items) -> Items:
        values = {
            "score": items.scores,
            "area": _areas(items),
            "x": items.xyxy[:, 0] + items.xyxy[:, 2],
            "y": items.xyxy[:, 1] + items.xyxy[:, 3],
        }[by]
        order = np.argsort(-values if descending else values, kind="stable")
        return items.select(order[:count])

    return _step("select", (_ITEMS,), run, None, options, {"which": which, "count": count})


def merge(*, iou: float | None = None, failed: str = "raise", **options: Unpack[PolicyOptions]) -> Step:
    """Several artifacts of one kind and picture as one; of nested items all of the innermost level.

    `merge()(found, image=photo)`: where there may be no nested items at all, the result is empty, and
    `image` says of which picture.

    Args:
        iou: of two that overlap more and have one name, only the better stays; None keeps all.
        failed: of nested items, "skip" leaves those out that failed.
        **options: policies.
    """
    if iou is not None:
        _check("iou", iou, least=0, most=1)
    items = Port(name="items", type=ITEMS, variadic=True, gathers="alone", skips_failed=skips(failed))
    image = Port(name="image", type=Image, required=False)

    def run(context: StepContext, *values: Any) -> Items:
        *parts, photo = values
        found = parts[0] if len(parts) == 1 and isinstance(parts[0], list) else parts
        if not found:
            return nothing(context.planned.returns, photo)
        return merged(found, iou)

    step = _step("merge", (items, image), run, None, options, {"iou": iou, "failed": failed})
    return replace(step, contextual=True)


def mask_out(
    mode: str = "fill",
    *,
    color: Sequence[int] = (0, 0, 0),
    strength: int = 16,
    outside: bool = False,
    **options: Unpack[PolicyOptions],
) -> Step:
    """A picture in which what was found cannot be made out any more; boxes count as their whole area.

    Args:
        mode: "fill" with a colour, "blur", or "pixelate".
        color: red, green and blue in 0..255.
        strength: pixels that are mixed into one.
        outside: keep what was found and hide the rest.
        **options: policies.
    """
    if mode not in ("fill", "blur", "pixelate"):
        raise InputError(f"mask out by 'fill', 'blur' or 'pixelate', got {mode!r}")
    _check("strength", strength, least=1)
    ink: tuple[Any, ...] = tuple(color)
    if len(ink) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in ink):
        raise InputError(f"a colour is red, green and blue in 0..255, got {color!r}")

    def run(image: Image, items: Items) -> Picture:
        _same_picture(image, items)
        hidden = _covered(items) != outside
        instead = _hidden(image.pixels, mode, ink, strength)
        return Picture(pixels=np.where(hidden[:, :, None], instead, image.pixels))

    parameters = {"mode": mode, "color": list(ink), "strength": strength, "outside": outside}
    return _step("mask_out", (_IMAGE, _ITEMS), run, Picture, options, parameters, light=False)


def draw(**options: Unpack[PolicyOptions]) -> Step:
    """The picture with everything that was found drawn on it."""

    def run(image: Image, *items: Items) -> Picture:
        from superlink.decoders.draw import draw as drawn  # brings supervision along

        # What was merged of no crops at all may not know its picture.
        return drawn(image.pixels, [one for one in items if len(one) or tuple(one.size) == image.size])

    items = Port(name="items", type=ITEMS, variadic=True)
    return _step("draw", (_IMAGE, items), run, Picture, options, light=False)


def stack(*, failed: str = "raise", **options: Unpack[PolicyOptions]) -> Step:
    """Pictures side by side, all as high as the first; of nested pictures all of the innermost level."""
    port = Port(name="images", type=Image, variadic=True, gathers="alone", skips_failed=skips(failed))

    def run(*images: Any) -> Picture:
        from superlink.decoders.draw import side_by_side

        shown = images[0] if len(images) == 1 and isinstance(images[0], list) else images
        return side_by_side([Picture(pixels=image.pixels) for image in shown])

    return _step("stack", (port,), run, Picture, options, {"failed": failed}, light=False)


def _step(
    kind: str,
    ports: tuple[Port, ...],
    run: Any,
    returns: PortType,
    options: PolicyOptions,
    parameters: dict[str, Any] | None = None,
    *,
    opens: bool = False,
    light: bool = True,
) -> Step:
    """`returns` None: what came in by the port "items"."""
    return Step(
        kind=kind,
        ports=ports,
        run=run,
        returns=returns,
        infer=(lambda types: types["items"]) if returns is None else None,
        opens=opens,
        light=light,
        parameters=parameters or {},
        name=options.get("name", ""),
        policies=policies_with(Policies(), options),
    )


def _check(name: str, value: Any, *, least: float, most: float = float("inf")) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        limits = f"from {least:g}" if most == float("inf") else f"in {least:g}..{most:g}"
        raise InputError(f"{name} is a number {limits}, got {value!r}")


def _same_picture(image: Image, items: Items) -> None:
    if tuple(items.size) != image.size:
        raise InputError(
            f"{type(items).__name__} of a picture of size {list(items.size)} "
            f"do not belong to one of size {list(image.size)}"
        )


def _rounded(box: NDArray[np.float32], scale: float, margin: int) -> tuple[int, int, int, int]:
    """Whole pixels around a box that was scaled about its centre."""
    x0, y0, x1, y1 = (float(value) for value in box)
    dx, dy = (x1 - x0) * (scale - 1) / 2 + margin, (y1 - y0) * (scale - 1) / 2 + margin
    left, top = int(np.floor(x0 - dx)), int(np.floor(y0 - dy))
    return left, top, int(np.ceil(x1 + dx)), int(np.ceil(y1 + dy))


def _areas(items: Items) -> NDArray[np.float32]:
    if isinstance(items, Masks):
        pixels: NDArray[np.float32] = items.masks.sum((1, 2)).astype(np.float32)
        return pixels
    sides = items.xyxy[:, 2:] - items.xyxy[:, :2]
    areas: NDArray[np.float32] = sides[:, 0] * sides[:, 1]
    return areas


def _covered(items: Items) -> NDArray[np.bool_]:
    """(H, W): where anything was found."""
    covered = np.zeros(items.size, np.bool_)
    if isinstance(items, Masks):
        return covered | items.masks.any(0)
    for box in items.xyxy:
        left, top, right, bottom = _rounded(box, 1.0, 0)
        covered[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return covered


def _hidden(pixels: NDArray[np.uint8], mode: str, ink: tuple[int, ...], strength: int) -> NDArray[np.uint8]:
    from PIL import Image as Pillow
    from PIL import ImageFilter

    if mode == "fill":
        return np.broadcast_to(np.asarray(ink, np.uint8), pixels.shape)
    picture = Pillow.fromarray(pixels)
    if mode == "blur":
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(strength)))
    small = (max(1, picture.width // strength), max(1, picture.height // strength))
    coarse = picture.resize(small, Pillow.Resampling.BOX)
    return np.asarray(coarse.resize(picture.size, Pillow.Resampling.NEAREST))


__all__ = ["crop", "draw", "filter", "mask_out", "merge", "select", "stack", "uncrop"]
