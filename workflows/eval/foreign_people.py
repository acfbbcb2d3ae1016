"""People drawn by other programs, with the 17 COCO keypoints: matplotlib, scikit-image and an SVG renderer.

For evaluation only, like `foreign`: nothing here is ever trained on, and neither bodies nor drawing share
anything with the people of the shapes world. A person faces the viewer: its left is on the right.

    picture = draw_people(seed=3, program="svg")
    picture.pixels, picture.keypoints
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageColor

from superlink.decoders.artifacts import Keypoints
from superlink.workflows.data.shapes.people import KEYPOINT_NAMES
from superlink.workflows.eval.foreign import CSS, PAPERS, PROGRAMS, Program, contrast

Point = NDArray[np.float64]  # (2,) x, y in pixels, y down

# Degrees outwards from straight down: upper arm, forearm, thigh, shin.
POSTURES: dict[str, tuple[float, float, float, float]] = {
    "standing": (14, 8, 5, 2),
    "arms out": (88, 90, 8, 4),
    "arms up": (140, 165, 10, 6),
    "hands on hips": (48, -52, 7, 3),
    "striding": (32, 18, 24, 10),
    "star": (118, 122, 27, 25),
    "shrugging": (38, 96, 6, 3),
}
# Shares of the height from crown to ankles, after the canon of seven and a half heads.
HEAD, NECK, SHOULDERS, HIPS, UPPER_ARM, FOREARM, THIGH, SHIN = (
    0.07,
    0.17,
    0.105,
    0.07,
    0.16,
    0.15,
    0.235,
    0.235,
)
HIP_Y = 1 - THIGH - SHIN


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignPeople:
    program: Program
    pixels: NDArray[np.uint8]  # (H, W, 3)
    keypoints: Keypoints  # of one class, "person"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """One person in pixels."""

    joints: dict[str, Point]  # by the names of COCO
    head: Point
    head_radii: tuple[float, float]  # across and down
    limb: float  # radius
    css: str
    solid: bool  # with a filled trunk, or only a line for it

    @property
    def limbs(self) -> list[tuple[Point, Point]]:
        """What is drawn as thick lines, trunk apart."""
        found = []
        for side in ("left", "right"):
            for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
                found.append((self.joints[f"{side}_{a}"], self.joints[f"{side}_{b}"]))
        shoulders, hips = self._middle("shoulder"), self._middle("hip")
        found.append((self.head, shoulders))
        found.append((self.joints["left_shoulder"], self.joints["right_shoulder"]))
        found.append((self.joints["left_hip"], self.joints["right_hip"]))
        return found if self.solid else [*found, (shoulders, hips)]

    @property
    def trunk(self) -> NDArray[np.float64]:
        """(4, 2) corners."""
        names = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
        return np.stack([self.joints[name] for name in names])

    @property
    def box(self) -> NDArray[np.float64]:
        """(4,) x0, y0, x1, y1 of all that is drawn."""
        ends = np.stack([end for limb in self.limbs for end in limb])
        radii = np.asarray(self.head_radii)
        low = np.minimum(ends.min(axis=0) - self.limb, self.head - radii)
        high = np.maximum(ends.max(axis=0) + self.limb, self.head + radii)
        return np.concatenate([low, high])

    def _middle(self, joint: str) -> Point:
        middle: Point = (self.joints[f"left_{joint}"] + self.joints[f"right_{joint}"]) / 2
        return middle


def draw_people(seed: int, program: Program | None = None) -> ForeignPeople:
    """The picture of this seed, by one of three programs: one to three people side by side."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 405]))
    program = program or PROGRAMS[int(rng.integers(len(PROGRAMS)))]
    height = int(rng.integers(200, 401))
    count = int(rng.integers(1, 4))
    width = int(np.clip(height * rng.uniform(0.8, 1.3) * (0.55 + 0.35 * count), 200, 640))
    paper = str(rng.choice(PAPERS))
    slots = np.arange(count) * width / count
    bodies = [_body(rng, x, width / count, height, paper) for x in slots]
    draw = {"matplotlib": _matplotlib, "skimage": _skimage, "svg": _svg}[program]
    pixels = draw(bodies, height, width, paper)
    xyv = np.zeros((count, len(KEYPOINT_NAMES), 3), np.float32)
    xyv[..., 2] = 2
    for row, body in enumerate(bodies):
        xyv[row, :, :2] = np.stack([body.joints[name] for name in KEYPOINT_NAMES])
    boxes = np.stack([body.box for body in bodies])
    keypoints = Keypoints(
        xyxy=np.clip(boxes, 0, [width, height, width, height]).astype(np.float32),
        scores=np.ones(count, np.float32),
        labels=np.zeros(count, np.int64),
        names=("person",),
        size=(height, width),
        xyv=xyv,
        keypoint_names=KEYPOINT_NAMES,
    )
    return ForeignPeople(program=program, pixels=pixels, keypoints=keypoints)


def _body(rng: Generator, left: float, room: float, height: int, paper: str) -> Body:
    """A person within (room, height) pixels from x = `left` on."""
    colors = [css for values in CSS.values() for css in values if contrast(css, paper) >= 110]
    posture = np.asarray(POSTURES[str(rng.choice(list(POSTURES)))])
    angles = {side: posture + rng.uniform(-9, 9, 4) for side in ("left", "right")}
    if rng.random() < 0.3:  # one arm does something else
        angles["left"][:2] = POSTURES[str(rng.choice(list(POSTURES)))][:2]
    unit = _joints(angles)
    limb = float(rng.uniform(0.02, 0.045))
    radii = (HEAD * float(rng.uniform(0.95, 1.15)), HEAD * float(rng.uniform(1.0, 1.15)))
    solid = bool(rng.random() < 0.6)
    shape = Body(
        joints=unit, head=np.array([0.0, HEAD]), head_radii=radii, limb=limb, css="black", solid=solid
    )
    x0, y0, x1, y1 = shape.box
    most = min(0.94 * room / (x1 - x0), 0.94 * height / (y1 - y0))
    size = most * float(rng.uniform(0.7, 1.0))
    corner = np.array(
        [
            left + rng.uniform(0.03, 0.97) * (room - size * (x1 - x0)),
            rng.uniform(0.03, 0.97) * (height - size * (y1 - y0)),
        ]
    )
    origin = corner - size * np.array([x0, y0])
    return Body(
        joints={name: origin + size * place for name, place in unit.items()},
        head=origin + size * shape.head,
        head_radii=(size * radii[0], size * radii[1]),
        limb=max(size * limb, 1.5),
        css=str(rng.choice(colors)),
        solid=solid,
    )


def _joints(angles: dict[str, NDArray[np.float64]]) -> dict[str, Point]:
    """Keypoints of a person one unit tall, its crown at the origin."""
    joints = {"nose": np.array([0.0, HEAD * 1.15])}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        joints[f"{side}_eye"] = np.array([sign * 0.35 * HEAD, 0.85 * HEAD])
        joints[f"{side}_ear"] = np.array([sign * 0.9 * HEAD, HEAD])
        joints[f"{side}_shoulder"] = np.array([sign * SHOULDERS, NECK + 0.02])
        joints[f"{side}_hip"] = np.array([sign * HIPS, HIP_Y])
        lengths = (UPPER_ARM, FOREARM, THIGH, SHIN)
        names = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
        for (start, end), length, angle in zip(names, lengths, np.deg2rad(angles[side]), strict=True):
            away = np.array([sign * np.sin(angle), np.cos(angle)])
            joints[f"{side}_{end}"] = joints[f"{side}_{start}"] + length * away
    return joints


def _matplotlib(bodies: list[Body], height: int, width: int, paper: str) -> NDArray[np.uint8]:
    """Lines with round ends and patches, on axes that fill the figure."""
    from matplotlib import patches
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=paper)
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    for body in bodies:
        points = 2 * body.limb * 0.72  # at 100 dpi
        for a, b in body.limbs:
            line = Line2D((a[0], b[0]), (a[1], b[1]), linewidth=points, color=body.css, zorder=3)
            line.set_solid_capstyle("round")
            axes.add_line(line)
        if body.solid:
            axes.add_patch(patches.Polygon(body.trunk, closed=True, color=body.css, linewidth=0, zorder=3))
        across, down = (2 * radius for radius in body.head_radii)
        head = patches.Ellipse(
            (body.head[0], body.head[1]), across, down, color=body.css, linewidth=0, zorder=4
        )
        axes.add_patch(head)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _skimage(bodies: list[Body], height: int, width: int, paper: str) -> NDArray[np.uint8]:
    """Index arrays painted on a numpy canvas, without anti-aliasing."""
    import skimage.draw

    draw: Any = skimage.draw
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:] = ImageColor.getrgb(paper)[:3]
    for body in bodies:
        ink, shape = ImageColor.getrgb(body.css)[:3], (height, width)
        for a, b in body.limbs:
            along = b - a
            side = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6) * body.limb
            corners = np.stack([a + side, b + side, b - side, a - side])
            canvas[draw.polygon(corners[:, 1], corners[:, 0], shape=shape)] = ink
            for end in (a, b):
                canvas[draw.disk((end[1], end[0]), body.limb, shape=shape)] = ink
        if body.solid:
            canvas[draw.polygon(body.trunk[:, 1], body.trunk[:, 0], shape=shape)] = ink
        across, down = body.head_radii
        canvas[draw.ellipse(body.head[1], body.head[0], down, across, shape=shape)] = ink
    return canvas


def _svg(bodies: list[Body], height: int, width: int, paper: str) -> NDArray[np.uint8]:
    """An SVG document drawn by resvg."""
    import resvg_py

    parts = [f'<rect width="{width}" height="{height}" fill="{paper}"/>']
    for body in bodies:
        ink = "rgb({},{},{})".format(*ImageColor.getrgb(body.css)[:3])  # resvg lacks "rebeccapurple"
        stroke = f'stroke="{ink}" stroke-width="{2 * body.limb:.2f}" stroke-linecap="round"'
        for a, b in body.limbs:
            ends = f'x1="{a[0]:.2f}" y1="{a[1]:.2f}" x2="{b[0]:.2f}" y2="{b[1]:.2f}"'
            parts.append(f"<line {ends} {stroke}/>")
        if body.solid:
            corners = " ".join(f"{x:.2f},{y:.2f}" for x, y in body.trunk)
            parts.append(f'<polygon points="{corners}" fill="{ink}"/>')
        (x, y), (across, down) = body.head, body.head_radii
        parts.append(f'<ellipse cx="{x:.2f}" cy="{y:.2f}" rx="{across:.2f}" ry="{down:.2f}" fill="{ink}"/>')
    text = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{"".join(parts)}</svg>'
    png = bytes(resvg_py.svg_to_bytes(svg_string=text))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).copy()
