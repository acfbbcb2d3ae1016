"""Drawing artifacts on the picture they speak of, through supervision.

A small picture is enlarged by a whole number first, or the labels would cover it.
One colour a phrase, the same over all artifacts of a drawing.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Origin, Picture
from superlink.decoders.detections import import_supervision, to_supervision
from superlink.router.errors import InputError

LEAST_SIDE = 640  # of a drawing's longer side, in pixels
MOST_PIXELS = 4_000_000  # a picture already larger than this is never enlarged

# Far apart in hue, none close to another; further phrases get golden-ratio hues.
COLORS = (
    "#e6194b", "#0082c8", "#3cb44b", "#f58231", "#911eb4", "#00a0a0",
    "#f032e6", "#808000", "#aa6e28", "#000080", "#d2b400", "#800000",
)  # fmt: skip

# Limbs of the 17 COCO keypoints by name, drawn where the names are known.
LIMBS = (
    ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
    ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"), ("left_eye", "right_eye"),
    ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
    ("right_eye", "right_ear"), ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
)  # fmt: skip


def draw(image: NDArray[np.uint8], artifacts: Iterable[Artifact]) -> Picture:
    """Boxes, masks and keypoints over a picture, each with its phrase and score.

    Args:
        image: (H, W, 3) RGB, the picture that the artifacts speak of; it is not changed.
        artifacts: of this picture; texts and pictures among them are passed over.

    Returns:
        The drawing, enlarged when the picture is small.

    Raises:
        InputError: an artifact is of a picture of another size.
    """
    shown = [one for one in artifacts if isinstance(one, Boxes | Masks | Keypoints)]
    height, width = image.shape[:2]
    for artifact in shown:
        if tuple(artifact.size) != (height, width):
            raise InputError(
                f"{type(artifact).__name__} of a picture of size {list(artifact.size)} "
                f"cannot be drawn on one of size {[height, width]}"
            )
    factor = _enlargement(height, width)
    scene = _enlarged(image, factor)
    phrases = tuple(dict.fromkeys(phrase for one in shown for phrase in one.phrases))
    # Masks first: boxes and labels stay readable on top of them.
    shown.sort(key=lambda one: isinstance(one, Masks), reverse=True)
    if phrases:
        brush = _Brush(phrases, scene)
        for artifact in shown:
            brush.paint(_scaled(artifact, factor))
        brush.label([_scaled(artifact, factor) for artifact in shown])
        scene = brush.scene
    return Picture(pixels=scene, origin=Origin(id="drawing"))


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Pictures in a row on white, all as high as the first; one alone stays as it is.

    Raises:
        InputError: there is none.
    """
    if not pictures:
        raise InputError("there is no picture to show")
    if len(pictures) == 1:
        return pictures[0]
    height = pictures[0].pixels.shape[0]
    shown = [pictures[0].pixels, *(_as_high(one.pixels, height) for one in pictures[1:])]
    gap = np.full((height, max(4, height // 64), 3), 255, np.uint8)
    row = [part for pixels in shown for part in (gap, pixels)][1:]
    return Picture(pixels=np.concatenate(row, axis=1), origin=Origin(id="drawing"))


class _Brush:
    """The annotators of one drawing, with one colour for each phrase."""

    def __init__(self, phrases: Sequence[str], scene: NDArray[np.uint8]) -> None:
        supervision = import_supervision()
        self._supervision = supervision
        self._phrases = phrases
        colors = [color_of(k) for k in range(len(phrases))]
        self._colors = [supervision.Color.from_hex(color) for color in colors]
        self._palette = supervision.ColorPalette(self._colors)
        self._ink = supervision.ColorPalette([supervision.Color.from_hex(_ink_on(color)) for color in colors])
        self._thickness = max(2, round(max(scene.shape[:2]) / 400))
        # supervision takes arrays for BGR, Pillow pictures for what they are.
        self._scene = Image.fromarray(scene)

    @property
    def scene(self) -> NDArray[np.uint8]:
        return np.asarray(self._scene)

    def paint(self, artifact: Boxes | Masks | Keypoints) -> None:
        sv = self._supervision
        if len(artifact) == 0:
            return
        if isinstance(artifact, Keypoints):
            self._paint_keypoints(artifact)
            return
        detections = self._colored(artifact)
        if isinstance(artifact, Masks):
            self._scene = sv.MaskAnnotator(color=self._palette, opacity=0.4).annotate(self._scene, detections)
        line = sv.PolygonAnnotator if isinstance(artifact, Masks) else sv.BoxAnnotator
        # A dark line below the coloured one: red on red would not be seen.
        dark = line(color=sv.Color.BLACK, thickness=self._thickness + 2)
        bright = line(color=self._palette, thickness=self._thickness)
        self._scene = bright.annotate(dark.annotate(self._scene, detections), detections)

    def label(self, artifacts: Sequence[Boxes | Masks | Keypoints]) -> None:
        """Phrase and score of every item, kept inside the picture and apart from each other."""
        sv = self._supervision
        boxes = [sv.Detections(xyxy=a.xyxy, class_id=self._ids(a)) for a in artifacts if len(a)]
        texts = [
            f"{phrase} {score:.2f}"
            for artifact in artifacts
            for phrase, score in zip(artifact.phrases, artifact.scores, strict=True)
        ]
        annotator = sv.RichLabelAnnotator(
            color=self._palette,
            text_color=self._ink,
            font_path=_font(),
            font_size=max(14, round(max(self._scene.size) / 45)),
            text_padding=4,
            smart_position=True,
        )
        self._scene = annotator.annotate(self._scene, sv.Detections.merge(boxes), labels=texts)

    def _paint_keypoints(self, artifact: Keypoints) -> None:
        sv = self._supervision
        place = {name.replace(" ", "_"): k + 1 for k, name in enumerate(artifact.keypoint_names)}
        edges = [(place[a], place[b]) for a, b in LIMBS if a in place and b in place]
        ids = self._ids(artifact)
        for color in sorted(set(ids.tolist())):
            points = to_supervision(artifact.select(ids == color))
            if edges:
                limbs = sv.EdgeAnnotator(color=self._colors[color], thickness=self._thickness, edges=edges)
                self._scene = limbs.annotate(self._scene, points)
            joints = sv.VertexAnnotator(color=self._colors[color], radius=self._thickness + 1)
            self._scene = joints.annotate(self._scene, points)

    def _colored(self, artifact: Boxes | Masks) -> Any:
        detections = to_supervision(artifact)
        detections.class_id = self._ids(artifact)
        return detections

    def _ids(self, artifact: Boxes | Masks | Keypoints) -> NDArray[np.int64]:
        return np.asarray([self._phrases.index(phrase) for phrase in artifact.phrases], np.int64)


def color_of(index: int) -> str:
    """The colour of the `index`-th phrase of a drawing, as "#rrggbb"."""
    if index < len(COLORS):
        return COLORS[index]
    rgb = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.75, 0.8)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)


def _ink_on(color: str) -> str:
    """Black or white, whichever is easier to read on `color` (luma of ITU-R BT.601)."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def _font() -> str:
    """A font for any European phrase, which Pillow's own is not; matplotlib comes with supervision."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _enlargement(height: int, width: int) -> int:
    longest = max(height, width)
    if longest >= LEAST_SIDE or height * width > MOST_PIXELS:
        return 1
    return -(-LEAST_SIDE // longest)


def _enlarged(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    if factor == 1:
        return image.copy()
    height, width = image.shape[:2]
    larger = Image.fromarray(image).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    pixels: NDArray[np.uint8] = np.asarray(larger)
    return pixels


def _as_high(pixels: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    if pixels.shape[0] == height:
        return pixels
    width = max(1, round(pixels.shape[1] * height / pixels.shape[0]))
    scaled: NDArray[np.uint8] = np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    )
    return scaled


def _scaled(artifact: Boxes | Masks | Keypoints, factor: int) -> Boxes | Masks | Keypoints:
    if factor == 1:
        return artifact
    size = (artifact.size[0] * factor, artifact.size[1] * factor)
    xyxy = artifact.xyxy * np.float32(factor)
    if isinstance(artifact, Masks):
        masks = artifact.masks.repeat(factor, axis=1).repeat(factor, axis=2)
        return replace(artifact, masks=masks, xyxy=xyxy, size=size)
    if isinstance(artifact, Keypoints):
        scale = np.asarray([factor, factor, 1], np.float32)
        return replace(artifact, xyv=artifact.xyv * scale, xyxy=xyxy, size=size)
    return replace(artifact, xyxy=xyxy, size=size)
