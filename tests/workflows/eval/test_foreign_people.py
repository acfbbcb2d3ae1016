from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageColor

from superlink.agents.asking import Question
from superlink.agents.turn import Turn
from superlink.workflows.data.shapes.people import KEYPOINT_NAMES
from superlink.workflows.eval.foreign import PAPERS, PROGRAMS, Program
from superlink.workflows.eval.foreign_people import ForeignPeople, draw_people
from superlink.workflows.eval.scenes import foreign_people
from superlink.workflows.eval.shapes import evaluate


def ink_of(picture: ForeignPeople) -> np.ndarray:
    """Where the picture is not of the colour of its paper, which is one of a list."""
    far = [
        np.abs(picture.pixels.astype(int) - ImageColor.getrgb(paper)[:3]).max(axis=2) for paper in set(PAPERS)
    ]
    paper = min(far, key=lambda one: float((one > 40).mean()))
    return paper > 40


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_joint_of_a_person_lies_on_what_the_program_drew(program: Program) -> None:
    for seed in range(6):
        picture = draw_people(seed, program)
        ink = ink_of(picture)
        assert 1 <= len(picture.keypoints) <= 3
        for x, y, visible in picture.keypoints.xyv.reshape(-1, 3):
            assert visible == 2
            near = ink[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2]
            assert near.any(), (seed, x, y)


@pytest.mark.parametrize("program", PROGRAMS)
def test_boxes_hold_all_ink_and_each_is_tight(program: Program) -> None:
    for seed in range(6):
        picture = draw_people(seed, program)
        ink = ink_of(picture)
        for x0, y0, x1, y1 in picture.keypoints.xyxy:
            columns, rows = slice(int(x0), int(np.ceil(x1)) + 1), slice(int(y0), int(np.ceil(y1)) + 1)
            ys, xs = np.nonzero(ink[rows, columns])
            found = np.array([xs.min() + int(x0), ys.min() + int(y0), xs.max() + int(x0), ys.max() + int(y0)])
            assert np.abs(found - [x0, y0, x1 - 1, y1 - 1]).max() <= 2.5
            ink[rows, columns] = False
        assert ink.mean() < 0.002


def test_left_is_on_the_right_of_a_person_that_faces_the_viewer() -> None:
    for seed in range(6):
        points = dict(zip(KEYPOINT_NAMES, draw_people(seed).keypoints.xyv[0], strict=True))
        for joint in ("eye", "ear", "shoulder", "hip"):
            assert points[f"left_{joint}"][0] > points[f"right_{joint}"][0]
        assert points["nose"][1] < points["left_hip"][1] < points["left_ankle"][1]


def test_bodies_and_programs_differ_and_the_same_seed_draws_the_same_picture() -> None:
    drawn = [draw_people(seed) for seed in range(30)]
    assert {one.program for one in drawn} == set(PROGRAMS)
    assert {len(one.keypoints) for one in drawn} == {1, 2, 3}
    assert (draw_people(5).pixels == draw_people(5).pixels).all()


@pytest.mark.parametrize(("moved", "right"), [(0.0, 1.0), (0.19, 1.0), (0.21, 0.0)])
def test_the_scores_are_those_of_what_was_found(moved: float, right: float) -> None:
    """A system that finds every person, with all keypoints off by a share of the box's longer side."""
    truths = iter([asked.truth for asked in foreign_people(4, seed=1)])

    def answer(questions: Sequence[Question]) -> list[Turn]:
        turns = []
        for _ in questions:
            truth = next(truths)
            xyv = truth.xyv.copy()
            sides = (truth.xyxy[:, 2:] - truth.xyxy[:, :2]).max(axis=1)
            xyv[..., 0] += moved * sides[:, None]
            turns.append(Turn(text="", raw="", artifacts=(replace(truth, xyv=xyv),)))
        return turns

    report = evaluate(answer, count=4, seed=1, parts=("foreign-people",))
    values = {metric.name: metric.value for metric in report.metrics}
    assert values["found at IoU 0.5"] == values["precision"] == 1.0
    assert values["PCK@0.2"] == right
