from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from superlink.agents.asking import Question
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Masks, Picture
from superlink.router.errors import InputError
from superlink.router.messages import Box, Mask, Point, Scribble
from superlink.workflows.data.samples import Sample, iterate
from superlink.workflows.eval.heldout import HeldoutSamples
from superlink.workflows.eval.interactive import interactive, kind_of
from superlink.workflows.eval.shapes import PARTS, evaluate
from superlink.workflows.eval.tasks import TASKS, measured, unanswered

LENGTH = 8
Answer = Callable[[Sequence[Question]], list[Turn]]


def oracle(samples: Sequence[Sample]) -> Answer:
    """Answers each sample in its turn with what it should be answered."""
    left = list(samples)
    last: list[Sample] = []

    def answer(questions: Sequence[Question]) -> list[Turn]:
        given = []
        for one in questions:
            if one.threshold is None:  # else the last one once more, for average precision
                last[:] = [left.pop(0)]
            given += last
        assert [one.conversation[-1].text for one in questions] == [
            sample.conversation[-2].text for sample in given
        ]
        return [
            Turn(
                text=sample.conversation[-1].text,
                raw="",
                artifacts=tuple(target.artifact for target in sample.targets),
                image=question.picture,
            )
            for sample, question in zip(given, questions, strict=True)
        ]

    return answer


def silence(questions: Sequence[Question]) -> list[Turn]:
    return [Turn(text="", raw="", image=one.picture) for one in questions]


@pytest.fixture(scope="module", params=TASKS)
def part(request: pytest.FixtureRequest) -> tuple[str, list[Sample]]:
    return request.param, list(iterate(HeldoutSamples(request.param, LENGTH, seed=2)))


def test_right_answers_score_one_and_silence_nothing(part: tuple[str, list[Sample]]) -> None:
    name, samples = part
    told: list[int] = []
    right = measured(oracle(samples), name, samples, batch=3, progress=told.append)
    quiet = measured(silence, name, samples)
    assert right
    assert sum(told) == LENGTH
    for best, worst in zip(right, quiet, strict=True):
        assert best.name == worst.name
        is_change = best.name == "change of the rest"
        assert best.value == pytest.approx(0 if is_change else 1, abs=0.02 if is_change else 1e-6)
        assert worst.value == (1 if is_change else 0)


def test_samples_of_the_world_are_the_same_every_time(part: tuple[str, list[Sample]]) -> None:
    name, samples = part
    again = HeldoutSamples(name, LENGTH, seed=2)[3]
    assert again.conversation[0].text == samples[3].conversation[0].text
    assert (again.image is None) == (samples[3].image is None)
    if again.image is not None:
        assert (again.image == samples[3].image).all()


def test_given_samples_are_asked_instead_of_those_of_the_world() -> None:
    samples = list(iterate(HeldoutSamples("captions", 3, seed=9)))
    report = evaluate(oracle(samples), parts=("captions",), samples={"captions": samples}, count=1)
    assert report.value("captions", "every object named") == 1


def test_parts_without_a_decoder_are_named_with_its_token() -> None:
    assert unanswered(PARTS, ("[DET]", "[GRD]", "[SEG]")) == {
        "foreign-people": "[POSE]",
        "keypoints": "[POSE]",
        "generation": "[GEN]",
        "edits": "[EDIT]",
    }


def test_a_sample_that_cannot_be_scored_is_named() -> None:
    (sample,) = iterate(HeldoutSamples("edits", 1))
    name = f"sample {sample.source!r} of task {sample.task!r}"
    with pytest.raises(InputError, match=f"{name} needs a target of Picture to be scored, it has none"):
        measured(silence, "edits", [replace(sample, targets=())])
    with pytest.raises(InputError, match="no edit that can be scored"):
        measured(silence, "edits", [replace(sample, task="edit")])
    with pytest.raises(InputError, match="no point, box, scribble or mask"):
        measured(silence, "interactive", [replace(sample, task="interactive")])


def masks(*flags: np.ndarray, scores: tuple[float, ...] = (), names: tuple[str, ...] = ()) -> Masks:
    count = len(flags)
    return Masks(
        masks=np.stack(flags),
        xyxy=np.zeros((count, 4), np.float32),
        scores=np.asarray(scores or [1.0] * count, np.float32),
        labels=np.arange(count) % max(len(names), 1),
        names=names or ("region1",),
        size=(10, 10),
    )


def area(rows: int) -> np.ndarray:
    flags = np.zeros((10, 10), np.bool_)
    flags[:rows] = True
    return flags


def test_the_best_mask_of_each_region_counts_for_its_kind_of_prompt() -> None:
    truth = masks(area(4), area(10), names=("region1", "region2"))
    found = masks(area(8), area(4), scores=(0.9, 0.4), names=("region1",))
    metrics = interactive(["box", "point"], [found, truth], [truth, truth])
    assert [(metric.name, metric.value, metric.count) for metric in metrics] == [
        ("mIoU, point", 1.0, 2),
        ("mIoU, box", pytest.approx((0.5 + 0.0) / 2), 2),
    ]
    with pytest.raises(ValueError, match="do not pair"):
        interactive(["box"], [found, truth], [truth, truth])


def test_every_prompt_has_a_kind() -> None:
    prompts = (Point(1, 1), Box(0, 0, 2, 2), Scribble(((0, 0), (1, 1))), Mask(area(2)))
    assert [kind_of(prompt) for prompt in prompts] == ["point", "box", "scribble", "mask"]


def test_a_made_picture_is_judged_by_what_it_shows() -> None:
    samples = list(iterate(HeldoutSamples("generation", 2, seed=5)))
    swapped = [
        replace(sample, targets=other.targets)
        for sample, other in zip(samples, reversed(samples), strict=True)
    ]
    artifacts = [sample.targets[0].artifact for sample in samples]
    assert all(isinstance(artifact, Picture) for artifact in artifacts)
    assert {metric.value for metric in measured(oracle(swapped), "generation", samples)} == {0.0}
