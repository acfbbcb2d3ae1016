"""Files written from scenes, and systems that answer all, half or nothing of what the scenes hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from superlink.agents.asking import Question
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Boxes, Keypoints
from superlink.decoders.contract import Failure
from superlink.router.errors import DataError, InputError
from superlink.workflows.data.shapes import Scene
from superlink.workflows.eval.own import Asking, opened
from superlink.workflows.eval.report import EvalReport
from tests.workflows.data import test_coco, test_coco_keypoints
from tests.workflows.data.test_coco import SIZE, coco, referring
from tests.workflows.eval.own_files import (
    EVERY_TOKEN,
    Answer,
    Items,
    answering,
    groups_of,
    scenes,
    write_coco,
    write_keypoints,
    write_refcoco,
)

COUNT = 6


def text_of(question: Question) -> str:
    return question.conversation[-1].text


def all_of(scene: Scene, question: Question) -> Items:
    groups = groups_of(scene)
    return scene.masks(groups) if text_of(question).startswith("Outline") else scene.boxes(groups)


def values(report: EvalReport) -> dict[str, float]:
    return {f"{one.group}/{one.name}": one.value for one in report.metrics}


def asked_by(data: Any) -> list[str]:
    """The wordings of all questions, answered by nobody."""
    texts: list[str] = []

    def silence(questions: Sequence[Question]) -> list[Turn]:
        texts.extend(text_of(one) for one in questions if one.threshold is None)
        return [Turn(text="", raw="", image=one.picture) for one in questions]

    data.evaluate(silence)
    return texts


def half(found: Callable[[Scene, Question], Items]) -> Callable[[Scene, Question], Items | None]:
    """Of every second question, however often it is asked."""
    numbers: dict[tuple[str, str], int] = {}

    def found_in(scene: Scene, question: Question) -> Items | None:
        assert question.picture is not None
        number = numbers.setdefault((question.picture.id, text_of(question)), len(numbers))
        return found(scene, question) if number % 2 else None

    return found_in


def test_all_boxes_and_masks_score_one_and_none_score_zero(tmp_path: Path) -> None:
    drawn = scenes(COUNT)
    path = write_coco(tmp_path, drawn)
    told: list[tuple[str, int]] = []
    data = opened("coco", path, EVERY_TOKEN)
    right = data.evaluate(
        answering(drawn, all_of), model="m", batch=4, progress=lambda part, done: told.append((part, done))
    )
    assert [part for part, done in told for _ in range(done)] == COUNT * ["boxes"] + COUNT * ["masks"]
    assert (right.task, right.model, right.data) == ("coco", "m", str(path))
    assert list(values(right).values()) == pytest.approx([1] * 7)
    assert {one.count for one in right.metrics} == {sum(len(scene.objects) for scene in drawn)}
    none = opened("coco", path, EVERY_TOKEN).evaluate(answering(drawn, lambda *_: None))
    assert set(values(none).values()) == {0}
    assert list(values(none)) == list(values(right))


def test_what_is_found_in_a_crowd_counts_neither_way(tmp_path: Path) -> None:
    pairs = [scene for scene in scenes(200) if any(len(items) > 1 for items in groups_of(scene).values())][:3]
    path = write_coco(tmp_path, pairs)
    data = json.loads(path.read_text())
    for number in range(1, len(pairs) + 1):
        rows = [row for row in data["annotations"] if row["image_id"] == number]
        of_class = [row["category_id"] for row in rows]
        crowd = next(row for row in reversed(rows) if of_class.count(row["category_id"]) > 1)
        crowd["iscrowd"] = 1
    path.write_text(json.dumps(data))
    report = opened("coco", path, EVERY_TOKEN).evaluate(answering(pairs, all_of))
    assert list(values(report).values()) == pytest.approx([1] * 7)
    assert {one.count for one in report.metrics} == {len(data["annotations"]) - len(pairs)}


def test_half_of_the_boxes_score_as_counted_by_hand(tmp_path: Path) -> None:
    drawn = scenes(COUNT)
    data = opened("coco", write_coco(tmp_path, drawn), ("[DET]",))
    report = data.evaluate(answering(drawn, half(all_of)))
    found = sum(len(scene.objects) for scene in drawn[1::2])
    total = sum(len(scene.objects) for scene in drawn)
    assert report.value("boxes", "F1 at IoU 0.5") == pytest.approx(2 * found / (found + total))
    # Of every class the share r that was found is right: COCO reads precision at 101 recalls, 1 up to r.
    names = {name for scene in drawn for name in groups_of(scene)}
    by_class = []
    for name in names:
        counts = [len(groups_of(scene).get(name, ())) for scene in drawn]
        recall = sum(counts[1::2]) / sum(counts)
        by_class.append(np.mean(np.linspace(0, 1, 101) <= recall + 1e-9) if recall else 0.0)
    assert report.value("boxes", "AP50") == pytest.approx(np.mean(by_class))


def test_average_precision_ranks_what_scores_too_little_to_be_served(tmp_path: Path) -> None:
    drawn = scenes(COUNT)
    data = opened("coco", write_coco(tmp_path, drawn), ("[DET]",))
    asked: list[float | None] = []

    def sure_of_half(scene: Scene, question: Question) -> Items | None:
        asked.append(question.threshold)
        return all_of(scene, question) if question.threshold is not None else served(scene, question)

    served = half(all_of)
    report = data.evaluate(answering(drawn, sure_of_half))
    assert sorted(asked, key=str) == COUNT * [0.02] + COUNT * [None]
    assert report.value("boxes", "AP50") == pytest.approx(1)
    found = sum(len(scene.objects) for scene in drawn[1::2])
    total = sum(len(scene.objects) for scene in drawn)
    assert report.value("boxes", "F1 at IoU 0.5") == pytest.approx(2 * found / (found + total))


def outlined() -> dict[str, Any]:
    """A file in which everything has an outline: two classes in its first picture, nothing in its second."""
    data = coco()
    del data["annotations"][2]
    return data


def test_questions_have_one_wording_and_name_what_is_in_the_picture(tmp_path: Path) -> None:
    path = test_coco.write(tmp_path, outlined())
    assert asked_by(opened("coco", path, ("[DET]",))) == ["Find every person and dog."]
    everything = Asking(every_class=True)
    assert (
        asked_by(opened("coco", path, ("[DET]",), asking=everything))
        == ["Find every person, dog and fire hydrant."] * 2
    )
    own = Asking(instruction="{classes}?", outline="Cut out {classes}")
    assert asked_by(opened("coco", path, ("[DET]", "[SEG]"), asking=own)) == [
        "person and dog?",
        "Cut out person and dog",
    ]


def test_what_is_found_in_a_picture_without_objects_is_wrong_where_all_classes_are_asked_for(
    tmp_path: Path,
) -> None:
    path = test_coco.write(tmp_path, outlined())
    boxes = [[2, 3, 12, 9], [0, 0, 1, 20]]

    def answer(questions: Sequence[Question]) -> list[Turn]:
        found = Boxes(
            xyxy=np.asarray(boxes, np.float32),
            scores=np.ones(2, np.float32),
            labels=np.asarray([0, 1]),
            names=("dog", "person"),
            size=SIZE,
        )
        return [Turn(text="", raw="", artifacts=(found,), image=one.picture) for one in questions]

    f1 = {}
    for every_class in (False, True):
        data = opened("coco", path, ("[DET]",), asking=Asking(every_class=every_class))
        f1[every_class] = data.evaluate(answer).value("boxes", "F1 at IoU 0.5")
    assert f1 == {False: 1.0, True: pytest.approx(2 * 2 / (4 + 2))}


def test_masks_are_asked_of_pictures_whose_objects_all_have_outlines(tmp_path: Path) -> None:
    data = coco()
    data["annotations"].append({**data["annotations"][0], "id": 9, "image_id": 6})
    path = test_coco.write(tmp_path, data)
    own = opened("coco", path, ("[DET]", "[SEG]"))
    assert [(part.name, len(part.questions)) for part in own.parts] == [("boxes", 2), ("masks", 1)]
    assert own.skipped == ["masks: 1 of 2 pictures have objects without an outline"]
    path = test_coco.write(tmp_path, coco())
    assert [part.name for part in opened("coco", path, ("[DET]", "[SEG]")).parts] == ["boxes"]
    with pytest.raises(DataError, match="no picture has an outline of each object"):
        opened("coco", path, ("[SEG]",))


def test_the_threshold_and_the_number_of_questions_are_as_asked_for(tmp_path: Path) -> None:
    drawn = scenes(COUNT)
    path = write_coco(tmp_path, drawn)
    seen: dict[int, list[str]] = {}
    for seed in (0, 0, 1, 2):
        ids: list[str] = []

        def answer(questions: Sequence[Question], ids: list[str] = ids) -> list[Turn]:
            assert {one.threshold for one in questions} == {0.25}
            ids.extend(one.picture.id for one in questions if one.picture)
            return [Turn(text="", raw="", image=one.picture) for one in questions]

        asking = Asking(count=2, seed=seed, threshold=0.25)
        opened("coco", path, ("[DET]",), asking=asking).evaluate(answer)
        assert len(set(ids)) == 2
        assert seen.setdefault(seed, ids) == ids
    assert len({tuple(ids) for ids in seen.values()}) > 1


def phrase_of(question: Question) -> str:
    (found,) = re.findall(r"^Find the (.+)\.$", text_of(question))
    return str(found)


def referred(scene: Scene, question: Question) -> Items:
    phrase = phrase_of(question)
    return scene.boxes({phrase: groups_of(scene)[phrase.removesuffix(" in the picture")]})


def test_every_expression_is_grounded_by_its_best_box(tmp_path: Path) -> None:
    drawn = scenes(COUNT)
    path = write_refcoco(tmp_path, drawn)
    alone = [name for scene in drawn for name, items in groups_of(scene).items() if len(items) == 1]
    data = opened("refcoco", path, EVERY_TOKEN)
    assert asked_by(data)[:2] == [f"Find the {alone[0]}.", f"Find the {alone[0]} in the picture."]

    def score(found: Callable[[Scene, Question], Items | None]) -> float:
        report = opened("refcoco", path, EVERY_TOKEN).evaluate(answering(drawn, found))
        (metric,) = report.metrics
        assert (metric.group, metric.name, metric.count) == ("grounding", "P@0.5", 2 * len(alone))
        return metric.value

    def with_another(last: float) -> Callable[[Scene, Question], Items]:
        """The right box with a score of 0.5, and the whole picture with another."""

        def found(scene: Scene, question: Question) -> Items:
            right = referred(scene, question)
            whole = np.asarray([[0, 0, scene.image().shape[1], scene.image().shape[0]]], np.float32)
            return Boxes(
                xyxy=np.concatenate([right.xyxy, whole]),
                scores=np.asarray([0.5, last], np.float32),
                labels=np.asarray([0, 0]),
                names=right.names,
                size=right.size,
            )

        return found

    assert score(referred) == 1
    assert score(half(referred)) == 0.5  # two questions an object
    assert score(lambda *_: None) == 0
    assert score(with_another(0.4)) == 1
    assert score(with_another(0.6)) == 0
    assert score(lambda *given: replace(referred(*given), names=("something else",))) == 0


def posed(scene: Scene, _: Question) -> Keypoints:
    return scene.keypoints({"person": scene.select(shape="person")})


def test_keypoints_of_all_half_and_nobody(tmp_path: Path) -> None:
    drawn = scenes(4, shapes=("person",))
    path = write_keypoints(tmp_path, drawn)
    labelled = [int((posed(scene, None).xyv[..., 2] > 0).sum()) for scene in drawn]  # type: ignore[arg-type]

    def scores(found: Callable[[Scene, Question], Items | None]) -> dict[str, float]:
        data = opened("keypoints", path, EVERY_TOKEN)
        assert asked_by(data) == ["Find the keypoints of every person."] * 4
        return values(opened("keypoints", path, EVERY_TOKEN).evaluate(answering(drawn, found)))

    right = scores(posed)
    assert set(right) == {"keypoints/OKS AP", "keypoints/OKS AP50", "keypoints/PCK@0.2"}
    assert list(right.values()) == pytest.approx([1] * 3)
    some = scores(half(posed))["keypoints/PCK@0.2"]
    assert some == pytest.approx(sum(labelled[1::2]) / sum(labelled))
    assert set(scores(lambda *_: None).values()) == {0}


def test_keypoints_other_than_those_of_people_are_named(tmp_path: Path) -> None:
    path = test_coco_keypoints.write(tmp_path, test_coco_keypoints.poses())
    parts = "the nose, the left eye and the tail"
    said = f"Find every cat and dog and mark the keypoints of each: {parts}."
    assert asked_by(opened("keypoints", path, EVERY_TOKEN)) == [said]
    own = Asking(instruction="{keypoints} of {classes}")
    assert asked_by(opened("keypoints", path, EVERY_TOKEN, asking=own)) == [f"{parts} of cat and dog"]


def test_objects_with_other_keypoints_are_a_question_of_their_own(tmp_path: Path) -> None:
    data = test_coco_keypoints.poses()
    data["categories"][1]["keypoints"] = ["beak", "tail", "left wing"]
    path = test_coco_keypoints.write(tmp_path, data)
    own = opened("keypoints", path, EVERY_TOKEN, asking=Asking(instruction="{classes}: {keypoints}"))
    cat, dog = "cat: the nose, the left eye and the tail", "dog: the beak, the tail and the left wing"
    assert sorted(asked_by(own)) == [cat, dog]


def test_what_a_model_or_a_file_lacks_is_said(tmp_path: Path) -> None:
    path = test_coco.write(tmp_path, coco())
    with pytest.raises(
        InputError, match=r"coco needs a decoder for \[DET\] or \[SEG\]; this model answers \[E"
    ):
        opened("coco", path, ("[EDIT]",))
    with pytest.raises(
        DataError, match=r"is 'coco'; superlink eval refcoco needs 'expressions' of its images"
    ):
        opened("refcoco", path, EVERY_TOKEN)
    with pytest.raises(DataError, match="is 'coco'; superlink eval keypoints needs categories with a list"):
        opened("keypoints", path, EVERY_TOKEN)
    (tmp_path / "poses").mkdir()
    people = test_coco_keypoints.write(tmp_path / "poses", test_coco_keypoints.poses())
    with pytest.raises(InputError, match=r"needs a decoder for \[POSE\]; this model answers \[DET\]"):
        opened("keypoints", people, ("[DET]",))
    assert [part.name for part in opened("coco", people, ("[DET]",)).parts] == ["boxes"]
    (tmp_path / "words").mkdir()
    words = test_coco.write(tmp_path / "words", referring())
    with pytest.raises(InputError, match=r"refcoco needs a decoder for \[GRD\]"):
        opened("refcoco", words, ("[DET]", "[SEG]"))
    bare = coco()
    del bare["annotations"][:3]
    with pytest.raises(DataError, match="has no picture with an annotation"):
        opened("coco", test_coco.write(tmp_path, bare), EVERY_TOKEN)


def test_records_that_cannot_be_used_end_it_by_name_or_are_left_out(tmp_path: Path) -> None:
    drawn = scenes(3)
    path = write_coco(tmp_path, drawn)
    data = json.loads(path.read_text())
    data["annotations"][-1]["bbox"] = [0, 0, 0, 0]
    path.write_text(json.dumps(data))
    (tmp_path / "1.png").write_text("no picture")
    with pytest.raises(DataError, match=r"found\.json, annotation \d+: .*no area"):
        opened("coco", path, ("[DET]",))
    own = opened("coco", path, ("[DET]",), asking=Asking(skip_bad=True))
    told: list[int] = []
    report = own.evaluate(answering(drawn, all_of), progress=lambda _, done: told.append(done))
    assert [re.sub(r".*found\.json, (\w+) .*", r"\1", said) for said in own.skipped] == [
        "annotation",
        "image",
    ]
    assert sum(told) == 3
    assert report.metrics[0].count == sum(len(scene.objects) for scene in drawn[1:]) - 1
    for name in ("2.png", "3.png"):
        (tmp_path / name).write_text("no picture")
    with pytest.raises(DataError, match=r"boxes: none of 3 questions can be asked; .*not a picture"):
        opened("coco", path, ("[DET]",), asking=Asking(skip_bad=True)).evaluate(answering(drawn, all_of))


def test_questions_that_failed_are_counted_and_said(tmp_path: Path) -> None:
    drawn = scenes(4)
    path = write_coco(tmp_path, drawn)

    def failing(which: Callable[[int], bool]) -> Answer:
        count = iter(range(100))
        right = answering(drawn, all_of)

        def answer(questions: Sequence[Question]) -> list[Turn]:
            lost = (Failure(call_id="router", error="too long", kind="input"),)
            return [
                replace(turn, artifacts=(), failures=lost) if which(next(count)) else turn
                for turn in right(questions)
            ]

        return answer

    own = opened("coco", path, ("[DET]",))
    report = own.evaluate(failing(lambda index: index == 0))
    assert (
        own.failed == "1 of 4 questions failed; the first: too long (they count as if nothing had been found)"
    )
    assert 0 < report.value("boxes", "F1 at IoU 0.5") < 1
    with pytest.raises(InputError, match="4 of 4 questions failed; the first: too long"):
        opened("coco", path, ("[DET]",)).evaluate(failing(lambda _: True))
