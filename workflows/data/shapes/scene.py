"""Scenes: pictures of coloured shapes whose every box, mask, keypoint and attribute is known.

    scene = Scene.generate(7)
    scene.image()                                             # (H, W, 3) uint8
    scene.boxes({"red circle": scene.select(shape="circle", color="red")})

A scene is a few small numbers; the same ones give the same pixels, so an edited copy
(`dataclasses.replace`) differs from the original only where the edit is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.workflows.data.shapes.backgrounds import Background, paint_background, sample_background
from superlink.workflows.data.shapes.effects import Effects, Pixels, apply_effects, sample_effects
from superlink.workflows.data.shapes.figures import Figure, geometry
from superlink.workflows.data.shapes.layout import SceneConfig, sample_canvas, sample_figures, size_word
from superlink.workflows.data.shapes.people import KEYPOINT_NAMES
from superlink.workflows.data.shapes.raster import RASTERIZERS, rasterize
from superlink.workflows.data.shapes.render import paint_figure

Extreme = Literal["leftmost", "rightmost", "topmost", "bottommost", "largest", "smallest"]
EXTREMES: tuple[Extreme, ...] = ("leftmost", "rightmost", "topmost", "bottommost", "largest", "smallest")
POSITION_MARGIN = 0.06  # sides of the picture by which a leftmost object must lead
SIZE_MARGIN = 1.2  # factor by which a largest object must lead
_RASTERIZER_ODDS = (0.5, 0.2, 0.3)
_WORLD = 20240  # keeps this world's random streams apart from other users of the same seeds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneObject:
    """A labelled thing in a scene."""

    index: int  # in painter's order, back to front
    figure: Figure
    mask: NDArray[np.bool_]  # (H, W) visible pixels
    box: tuple[float, float, float, float]  # tight around the mask
    keypoints: NDArray[np.float32] | None  # (17, 3) x, y, visibility for a person
    size: str | None  # "small", "medium", "large"; None between two words
    column: str | None  # "left" or "right" half; None near the middle
    row: str | None  # "top" or "bottom" half

    @property
    def shape(self) -> str:
        return self.figure.shape

    @property
    def color(self) -> str:
        return self.figure.color

    @property
    def center(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def area(self) -> float:
        """Visible pixels."""
        return float(np.count_nonzero(self.mask))


@dataclass(frozen=True, kw_only=True)
class Scene:
    seed: int
    height: int
    width: int
    background: Background
    figures: tuple[Figure, ...]  # painter's order
    rasterizer: str  # "smooth", "aliased", "field"
    effects: Effects

    @classmethod
    def generate(cls, seed: int, config: SceneConfig | None = None) -> Scene:
        """The scene of this seed (0 or more); the same seed and config give the same pixels."""
        config = config or SceneConfig()
        rng = np.random.default_rng(np.random.SeedSequence([_WORLD, seed]))
        height, width = sample_canvas(rng, config)
        background = sample_background(rng)
        rasterizer = RASTERIZERS[int(rng.choice(len(RASTERIZERS), p=_RASTERIZER_ODDS))]
        return cls(
            seed=seed,
            height=height,
            width=width,
            background=background,
            figures=sample_figures(rng, config, background, rasterizer, height, width),
            rasterizer=rasterizer,
            effects=sample_effects(rng, config.effects),
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        """Every object, in painter's order."""
        owner = np.full((self.height, self.width), -1, dtype=np.int16)
        windows = []
        for index, figure in enumerate(self.figures):
            layer = rasterize(figure, self.rasterizer, self.height, self.width)
            owner[layer.window][layer.mask] = index
            windows.append(layer.window)
        return tuple(self._object(index, owner, window) for index, window in enumerate(windows))

    @cached_property
    def _pixels(self) -> Pixels:
        canvas = paint_background(self.background, self.height, self.width)
        for figure in self.figures:
            layer = rasterize(figure, self.rasterizer, self.height, self.width)
            paint_figure(canvas, figure, layer, seed=self.seed)
        drawn = np.clip(canvas + np.float32(0.5), 0, 255).astype(np.uint8)
        return apply_effects(drawn, self.effects)

    def image(self) -> Pixels:
        """(H, W, 3) uint8 RGB; a fresh copy."""
        return self._pixels.copy()

    def select(
        self, shape: str | None = None, color: str | None = None, size: str | None = None
    ) -> tuple[SceneObject, ...]:
        """The objects that have every given attribute."""
        return tuple(
            item
            for item in self.objects
            if (shape is None or item.shape == shape)
            and (color is None or item.color == color)
            and (size is None or item.size == size)
        )

    def superlative(self, extreme: Extreme, among: Sequence[SceneObject] | None = None) -> SceneObject | None:
        """The most `extreme` of `among` (default: all), or None where it is a close call or empty.

        A single candidate is its own extreme.
        """
        candidates = self.objects if among is None else among
        if not candidates:
            return None
        leads = [self._leads(extreme, item, candidates) for item in candidates]
        return candidates[leads.index(True)] if any(leads) else None

    def _leads(self, extreme: Extreme, item: SceneObject, candidates: Sequence[SceneObject]) -> bool:
        others = [other for other in candidates if other.index != item.index]
        if extreme in ("largest", "smallest"):
            sign = 1.0 if extreme == "largest" else -1.0
            area = SIZE_MARGIN**2
            return all(
                (item.figure.size / other.figure.size) ** sign >= SIZE_MARGIN
                and (item.area / other.area) ** sign >= area
                for other in others
            )
        axis = 0 if extreme in ("leftmost", "rightmost") else 1
        sign = -1.0 if extreme in ("leftmost", "topmost") else 1.0
        margin = POSITION_MARGIN * (self.width, self.height)[axis]
        return all(sign * (item.center[axis] - other.center[axis]) >= margin for other in others)

    def boxes(self, groups: Mapping[str, Sequence[SceneObject]]) -> Boxes:
        """Boxes of every group; the keys are the names, present or not."""
        items, labels = _flat(groups)
        return Boxes(
            xyxy=_xyxy(items),
            scores=np.ones(len(items), dtype=np.float32),
            labels=labels,
            names=tuple(groups),
            size=(self.height, self.width),
        )

    def masks(self, groups: Mapping[str, Sequence[SceneObject]]) -> Masks:
        """Visible masks of every group; the keys are the names, present or not."""
        items, labels = _flat(groups)
        stacked = np.zeros((len(items), self.height, self.width), dtype=np.bool_)
        for row, item in enumerate(items):
            stacked[row] = item.mask
        return Masks(
            masks=stacked,
            xyxy=_xyxy(items),
            scores=np.ones(len(items), dtype=np.float32),
            labels=labels,
            names=tuple(groups),
            size=(self.height, self.width),
        )

    def keypoints(self, groups: Mapping[str, Sequence[SceneObject]]) -> Keypoints:
        """COCO keypoints of every group; things that are not people have none and are left out."""
        people = {
            name: [item for item in group if item.keypoints is not None] for name, group in groups.items()
        }
        items, labels = _flat(people)
        xyv = np.zeros((len(items), len(KEYPOINT_NAMES), 3), dtype=np.float32)
        for row, item in enumerate(items):
            assert item.keypoints is not None
            xyv[row] = item.keypoints
        return Keypoints(
            xyv=xyv,
            keypoint_names=KEYPOINT_NAMES,
            xyxy=_xyxy(items),
            scores=np.ones(len(items), dtype=np.float32),
            labels=labels,
            names=tuple(groups),
            size=(self.height, self.width),
        )

    def with_figures(self, figures: tuple[Figure, ...]) -> Scene:
        """The same scene with other figures."""
        return replace(self, figures=figures)

    def _object(self, index: int, owner: NDArray[np.int16], window: tuple[slice, slice]) -> SceneObject:
        figure = self.figures[index]
        mask = np.zeros(owner.shape, dtype=np.bool_)
        mask[window] = owner[window] == index
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x0, y0, x1, y1 = 0.0, 0.0, 0.0, 0.0
        if len(rows):
            x0, y0, x1, y1 = (float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        return SceneObject(
            index=index,
            figure=figure,
            mask=mask,
            box=(x0, y0, x1, y1),
            keypoints=_keypoints(figure, mask),
            size=size_word(figure.size / (self.height * self.width) ** 0.5),
            column=_half((x0 + x1) / 2 / self.width, "left", "right"),
            row=_half((y0 + y1) / 2 / self.height, "top", "bottom"),
        )


def _half(where: float, low: str, high: str) -> str | None:
    return low if where < 0.44 else high if where > 0.56 else None


def _keypoints(figure: Figure, mask: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Visibility: 2 on the visible mask, 1 hidden by something, 0 outside of the picture."""
    if figure.shape != "person":
        return None
    height, width = mask.shape
    xyv = np.zeros((len(KEYPOINT_NAMES), 3), dtype=np.float32)
    for row, (x, y) in enumerate(geometry(figure)[1]):
        if 0 <= x < width and 0 <= y < height:
            xyv[row] = x, y, 2 if mask[int(y), int(x)] else 1
    return xyv


def _flat(groups: Mapping[str, Sequence[SceneObject]]) -> tuple[list[SceneObject], NDArray[np.int64]]:
    items = [item for group in groups.values() for item in group]
    labels = [label for label, group in enumerate(groups.values()) for _ in group]
    return items, np.asarray(labels, dtype=np.int64)


def _xyxy(items: Sequence[SceneObject]) -> NDArray[np.float32]:
    return np.asarray([item.box for item in items], dtype=np.float32).reshape(-1, 4)
