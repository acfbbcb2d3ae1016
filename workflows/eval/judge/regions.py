"""Regions: what stands out from a plain-ish background, and its parts of one colour each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_dilation,
    binary_opening,
    distance_transform_edt,
    find_objects,
    label,
    maximum_filter,
    median_filter,
)

from superlink.workflows.eval.judge.colors import Lab, lab_of

Flags = NDArray[np.bool_]
AROUND = np.ones((3, 3), dtype=np.bool_)
LEAST_AREA = 0.0015  # of the picture; less is dirt, letters, ticks
NEAR = 20.0  # Lab distance within which pixels are of one colour
STANDS_OUT = 10.0  # least Lab distance from the background
_COLORS = 5  # most colours of one region


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A picture in Lab with the background that was fitted to it."""

    lab: Lab  # (H, W, 3), smoothed where it is noisy
    paper: Lab  # (H, W, 3) the background everywhere, behind things too
    front: Flags  # (H, W) what stands out


def ground_of(pixels: NDArray[np.uint8]) -> Ground:
    """Split a picture (H, W, 3) into background and what stands out from it.

    The background is a quadratic surface in each channel of Lab: first the commonest colour along the
    picture's edge, then refitted to all that is near.
    """
    lab = lab_of(pixels)
    noise = _noise(lab)
    if noise > 1.5:
        lab = median_filter(lab, size=(3, 3, 1))
    paper = _paper(lab)
    away = np.linalg.norm(lab - paper, axis=2)
    least = max(STANDS_OUT, 3 * noise)
    front = away > least
    # A soft edge belongs to what it is more than half of.
    rim = front & binary_dilation(~front, AROUND)
    front &= ~(rim & (away < 0.5 * maximum_filter(away, size=5)))
    return Ground(lab, paper, front)


def regions(ground: Ground) -> Iterator[Flags]:
    """Connected regions (H, W) of the front, from the largest; specks are left out."""
    numbered, _ = label(_without_long_lines(ground.front), AROUND)
    sizes = np.bincount(numbered.ravel())[1:]
    least = LEAST_AREA * numbered.size
    for index in np.argsort(-sizes, kind="stable"):
        if sizes[index] >= least:
            yield numbered == index + 1


def parts(ground: Ground, region: Flags) -> list[Flags]:
    """The connected parts of one colour each, largest first, rims given to what they surround.

    Together they cover the region; a speck of another colour joins the part that it touches most.
    """
    (window,) = find_objects(region.astype(np.int8))
    inside = region[window]
    nearest = _clustered(ground.lab[window], inside)
    pieces = [
        numbered == index + 1
        for color in range(int(nearest.max()) + 1)
        for numbered, count in [label(inside & (nearest == color))]
        for index in range(count)
    ]
    pieces.sort(key=np.count_nonzero, reverse=True)
    whole = float(np.count_nonzero(inside))
    kept = [pieces[0]]
    loose: list[Flags] = []
    for piece in pieces[1:]:
        small = np.count_nonzero(piece) < max(12.0, 0.05 * whole, LEAST_AREA * region.size)
        (loose if small or _is_rim(piece, kept, whole) else kept).append(piece)
    if len(kept) > 1 and _is_rim(kept[0], kept[1:], whole):  # a wide outline around a smaller fill
        loose.append(kept.pop(0))
    grown = _absorbed(kept, loose)
    full = []
    for piece in grown:
        flags = np.zeros_like(region)
        flags[window] = piece
        full.append(flags)
    return sorted(full, key=np.count_nonzero, reverse=True)


def thickness(flags: Flags) -> float:
    """Diameter of the largest disc that fits in, in pixels."""
    return 2.0 * float(distance_transform_edt(np.pad(flags, 1)).max())


def _without_long_lines(front: Flags) -> Flags:
    """The front without lines of one pixel across most of the picture: a plot's frame, its grid."""
    height, width = front.shape
    numbered, _ = label(front, AROUND)
    kept = front.copy()
    for index, (rows, columns) in enumerate(find_objects(numbered)):
        if rows.stop - rows.start > 0.7 * height or columns.stop - columns.start > 0.7 * width:
            long = numbered == index + 1
            kept[long] = binary_opening(long, np.ones((2, 2), dtype=np.bool_))[long]
    return kept


def _noise(lab: Lab) -> float:
    """Standard deviation of fine noise in L. Source: Immerkaer 1996, with the median for the mean."""
    light = lab[..., 0]
    ring = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    corners = light[:-2, :-2] + light[:-2, 2:] + light[2:, :-2] + light[2:, 2:]
    return float(np.median(np.abs(corners - 2 * ring + 4 * light[1:-1, 1:-1]))) / (6 * 0.6745)


def _paper(lab: Lab) -> Lab:
    height, width = lab.shape[:2]
    edge = np.ones((height, width), dtype=np.bool_)
    deep = max(2, round(0.04 * min(height, width)))
    edge[deep:-deep, deep:-deep] = False
    ys, xs = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(xs), xs, ys, xs * xs, xs * ys, ys * ys], axis=-1).astype(np.float32)
    paper: Lab = np.broadcast_to(_commonest(lab[edge]), lab.shape)
    for reach in (16.0, 14.0, 12.0, 12.0):
        near = np.linalg.norm(lab - paper, axis=2) < reach
        if np.count_nonzero(near) < 0.02 * near.size:
            break
        weights, *_ = np.linalg.lstsq(terms[near][::3], lab[near][::3], rcond=None)
        paper = terms @ weights
    return paper


def _commonest(colors: Lab) -> Lab:
    """The densest place (3,) among colours (N, 3)."""
    bins, owner, counts = np.unique(np.round(colors / 8), axis=0, return_inverse=True, return_counts=True)
    seed = colors[owner.ravel() == int(counts.argmax())].mean(axis=0)
    close = np.linalg.norm(colors - seed, axis=1) < 12
    center: Lab = np.median(colors[close], axis=0) if len(bins) > 1 and close.any() else seed
    return center


def _clustered(lab: Lab, inside: Flags) -> NDArray[np.int64]:
    """The colour cluster (h, w) of every pixel, by greedy search for the densest colours."""
    spread = sum(
        maximum_filter(lab[..., channel], size=3) + maximum_filter(-lab[..., channel], size=3)
        for channel in range(3)
    )
    flat = inside & (spread < 24)  # blends of two colours along an edge are no colours of their own
    if np.count_nonzero(flat) < 0.15 * np.count_nonzero(inside):
        flat = inside
    left = lab[flat]
    least = max(12.0, 0.04 * len(left))
    centers: list[Lab] = []
    while len(centers) < _COLORS and (len(left) >= least or not centers):
        center = _commonest(left)
        close = np.linalg.norm(left - center, axis=1) < NEAR
        if not centers or np.count_nonzero(close) >= least:
            centers.append(center)
        left = left[~close]
    far = np.linalg.norm(lab[..., None, :] - np.stack(centers), axis=-1)
    nearest: NDArray[np.int64] = far.argmin(axis=-1)
    return nearest


def _is_rim(piece: Flags, others: list[Flags], whole: float) -> bool:
    """Whether `piece` is a thin line along another part's boundary."""
    if thickness(piece) > max(4.5, 0.14 * whole**0.5):
        return False
    wide = binary_dilation(piece, AROUND)
    for other in others:
        around = binary_dilation(other, AROUND) & ~other
        if np.count_nonzero(around & wide) >= 0.25 * np.count_nonzero(around):
            return True
    return False


def _absorbed(kept: list[Flags], loose: list[Flags]) -> list[Flags]:
    grown = list(kept)
    for piece in sorted(loose, key=np.count_nonzero, reverse=True):
        wide = binary_dilation(piece, AROUND)
        touching = [np.count_nonzero(wide & part) for part in grown]
        best = int(np.argmax(touching))
        grown[best] = grown[best] | piece
    return grown
