from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
from rich.console import Console

from superlink.agents.asking import Question
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Masks
from superlink.workflows.data.samples import iterate
from superlink.workflows.data.shapes_samples import ShapesSamples
from superlink.workflows.eval import scenes
from superlink.workflows.eval.routing import is_right
from superlink.workflows.eval.shapes import FINDING, evaluate
from superlink.workflows.eval.wordings import SpokenSamples

COUNT, SEED = 12, 3
Key = tuple[str, str]


def key(question: Question) -> Key:
    return question.conversation[-1].text, question.picture.id if question.picture else ""


@pytest.fixture(scope="module")
def truths() -> dict[Key, Artifact]:
    plainly = partial(scenes.detection, plainly=True)
    parts = (scenes.detection, plainly, scenes.segmentation, scenes.grounding, scenes.foreign)
    return {key(one.question): one.truth for part in parts for one in part(COUNT, SEED)}


@pytest.fixture(scope="module")
def replies() -> dict[str, str]:
    samples = ShapesSamples(2 * COUNT, seed=1_000_003 + SEED, split="heldout")
    spoken = SpokenSamples(4 * COUNT, seed=SEED)
    every = [*iterate(samples), *iterate(spoken)]
    return {sample.conversation[-2].text: sample.conversation[-1].text for sample in every}


def oracle(
    truths: dict[Key, Artifact],
    replies: dict[str, str],
    change: Callable[[Boxes | Masks], Boxes | Masks] = lambda artifact: artifact,
    rewrite: Callable[[str], str] = lambda raw: raw,
) -> Callable[[Sequence[Question]], list[Turn]]:
    """Answers everything rightly, but for `change` and `rewrite`."""

    def answer(questions: Sequence[Question]) -> list[Turn]:
        turns = []
        for one in questions:
            truth = truths.get(key(one))
            artifacts = (change(truth),) if isinstance(truth, Boxes | Masks) else ()
            raw = rewrite(replies.get(one.conversation[-1].text, ""))
            turns.append(Turn(text="", raw=raw, artifacts=artifacts, image=one.picture))
        return turns

    return answer


def test_right_answers_score_one_everywhere(truths: dict[Key, Artifact], replies: dict[str, str]) -> None:
    report = evaluate(oracle(truths, replies), count=COUNT, seed=SEED, batch=5)
    assert {metric.group for metric in report.metrics} == {*FINDING[:-1], "foreign pictures"}
    assert [m for m in report.metrics if m.value != pytest.approx(1)] == []
    assert all(metric.count > 0 for metric in report.metrics)


def test_silence_scores_zero_except_where_nothing_is_asked(
    truths: dict[Key, Artifact], replies: dict[str, str]
) -> None:
    report = evaluate(oracle({}, {}), count=COUNT, seed=SEED)
    assert report.value("routing", "no token where nothing is asked") == 1
    rest = [metric for metric in report.metrics if "no token" not in metric.name]
    assert {metric.value for metric in rest} == {0}


def test_right_boxes_under_wrong_names_score_zero(
    truths: dict[Key, Artifact], replies: dict[str, str]
) -> None:
    def misnamed(artifact: Boxes | Masks) -> Boxes | Masks:
        return replace(artifact, names=tuple(f"{name}s" for name in artifact.names))

    report = evaluate(oracle(truths, replies, misnamed), count=COUNT, seed=SEED, parts=FINDING[2:])
    assert {metric.value for metric in report.metrics} == {0}


def test_a_token_in_chat_is_counted(truths: dict[Key, Artifact], replies: dict[str, str]) -> None:
    chatty = oracle(truths, replies, rewrite=lambda raw: raw + "[DET]")
    report = evaluate(chatty, count=COUNT, seed=SEED, parts=("routing",))
    assert report.value("routing", "no token where nothing is asked") == 0
    assert report.value("routing", "exact") == 0


@pytest.mark.parametrize(
    ("raw", "right"),
    [
        ("Here they are:<det> red circle</det>[DET],<det> star</det>[SEG].", True),
        ("Here they are: <det>red circle</det>[DET], <det>star</det>[SEG].", True),
        ("Yes, <det>Red circle</det>[DET] and <det>star</det>[SEG]", True),
        ("<det>star</det>[SEG], <det>red circle</det>[DET]", False),  # order
        ("<det>red circle</det>[DET]", False),  # one missing
        ("<det>red circle</det>[DET], <det>star</det>[DET]", False),  # wrong decoder
        ("<det>red circles</det>[DET], <det>star</det>[SEG]", False),  # wrong phrase
        ("red circle[DET], star[SEG]", False),  # phrases not marked
        ("<det>red circle</det>[DET], <det>star</det>[SEG][SEG]", False),  # a token too many
    ],
)
def test_routing_is_right_when_tokens_and_phrases_are(raw: str, right: bool) -> None:
    assert is_right(raw, (("[DET]", "red circle"), ("[SEG]", "star"))) is right


def test_held_out_questions_speak_of_scenes_that_training_does_not_draw() -> None:
    one = next(scenes.detection(1, 0))
    again = next(scenes.detection(1, 0))
    other = next(scenes.detection(1, 1))
    assert key(one.question) == key(again.question)
    assert key(one.question) != key(other.question)


def test_plain_questions_ask_for_the_same_things_of_the_same_scenes() -> None:
    for one, plain in zip(scenes.detection(4, 0), scenes.detection(4, 0, plainly=True), strict=True):
        assert plain.question.conversation[-1].text.startswith("Find all ")
        assert plain.truth.names == one.truth.names
        assert (plain.truth.xyxy == one.truth.xyxy).all()
        assert key(plain.question)[1] == key(one.question)[1]


def test_boxes_that_only_plain_words_find_count_as_plainly_asked(
    truths: dict[Key, Artifact], replies: dict[str, str]
) -> None:
    plain = {one: truth for one, truth in truths.items() if one[0].startswith("Find all ")}
    report = evaluate(oracle(plain, replies), count=COUNT, seed=SEED, parts=("boxes",))
    assert report.value("boxes", "AP50, plainly asked") == 1
    assert report.value("boxes", "AP50") < 1


def test_a_report_is_json_and_a_table(truths: dict[Key, Artifact], replies: dict[str, str]) -> None:
    done: list[tuple[str, int]] = []
    report = evaluate(
        oracle(truths, replies),
        model="tiny",
        count=COUNT,
        seed=SEED,
        parts=("foreign",),
        batch=5,
        progress=lambda part, number: done.append((part, number)),
    )
    assert done == [("foreign", 5), ("foreign", 5), ("foreign", 2)]
    data = json.loads(json.dumps(report.to_json()))
    assert data["model"] == "tiny"
    assert data["metrics"][0] == {
        "group": "foreign pictures",
        "name": "F1 at IoU 0.5",
        "value": 1.0,
        "count": data["metrics"][0]["count"],
    }
    console = Console(width=100, record=True, quiet=True, file=None)
    console.print(report.table())
    with pytest.raises(KeyError, match="boxes/mAP was not measured"):
        report.value("boxes", "mAP")
