"""Jointed people: a head, a trunk and two-part limbs hung on the 17 COCO keypoints.

A person faces the viewer: its left hand is on the right side of the picture.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from superlink.workflows.data.shapes.parts import Capsule, Disc, Part, Points, Polygon

KEYPOINT_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
HEAD = 0  # index of the head among a person's parts


@lru_cache(maxsize=256)
def person(pose: int, build: float) -> tuple[tuple[Part, ...], Points]:
    """Parts and (17, 2) keypoints of a person about one unit tall, head up.

    Args:
        pose: seeds the joint angles; every third one is a stick figure.
        build: [0, 1], thin to stout.
    """
    rng = np.random.default_rng(np.random.SeedSequence([pose, 17]))
    stick = pose % 3 == 0
    head = float(rng.uniform(0.085, 0.115))
    shoulder, hip = float(rng.uniform(0.10, 0.125)), float(rng.uniform(0.06, 0.085))
    limb = 0.024 + 0.012 * build if stick else 0.034 + 0.022 * build
    neck_y = 2 * head + 0.02
    shoulder_y, hip_y = neck_y + 0.035, neck_y + 0.035 + float(rng.uniform(0.25, 0.30))
    joints: dict[str, Points] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        joints[f"{side}_shoulder"] = np.array([sign * shoulder, shoulder_y])
        joints[f"{side}_hip"] = np.array([sign * hip, hip_y])
        raised = rng.random() < 0.3
        upper = np.deg2rad(rng.uniform(80, 140) if raised else rng.uniform(8, 60))
        lower = upper + np.deg2rad(rng.uniform(-10, 60) if raised else rng.uniform(-35, 45))
        joints[f"{side}_elbow"] = joints[f"{side}_shoulder"] + 0.155 * _down(upper, sign)
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + 0.15 * _down(lower, sign)
        thigh = np.deg2rad(rng.uniform(2, 32))
        shin = thigh + np.deg2rad(rng.uniform(-28, 8))
        joints[f"{side}_knee"] = joints[f"{side}_hip"] + 0.22 * _down(thigh, sign)
        joints[f"{side}_ankle"] = joints[f"{side}_knee"] + 0.21 * _down(shin, sign)
    face = {
        "nose": np.array([0.0, head * 1.1]),
        "left_eye": np.array([0.36 * head, head * 0.82]),
        "right_eye": np.array([-0.36 * head, head * 0.82]),
        "left_ear": np.array([0.86 * head, head]),
        "right_ear": np.array([-0.86 * head, head]),
    }
    joints |= face
    parts: list[Part] = [Disc(0.0, head, head), Capsule(0.0, head, 0.0, shoulder_y + 0.02, max(limb, 0.03))]
    parts += _trunk(joints, limb, stick)
    for side in ("left", "right"):
        for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            width = limb * (1.2 if start in ("hip", "knee") else 1.0)
            parts.append(_bone(joints[f"{side}_{start}"], joints[f"{side}_{end}"], width))
    return tuple(parts), np.stack([joints[name] for name in KEYPOINT_NAMES])


def _trunk(joints: dict[str, Points], limb: float, stick: bool) -> list[Part]:
    left, right = joints["left_shoulder"], joints["right_shoulder"]
    left_hip, right_hip = joints["left_hip"], joints["right_hip"]
    beams: list[Part] = [_bone(left, right, limb), _bone(left_hip, right_hip, limb)]
    if stick:
        return [*beams, _bone((left + right) / 2, (left_hip + right_hip) / 2, limb)]
    sides: list[Part] = [_bone(left, left_hip, limb), _bone(right, right_hip, limb)]
    return [*beams, *sides, Polygon(np.stack([left, right, right_hip, left_hip]))]


def _down(angle: float, sign: float) -> Points:
    """Unit vector `angle` radians away from straight down, outwards on the side `sign`."""
    return np.array([sign * np.sin(angle), np.cos(angle)])


def _bone(a: Points, b: Points, radius: float) -> Capsule:
    return Capsule(float(a[0]), float(a[1]), float(b[0]), float(b[1]), radius)
