from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from superlink.workflows.eval.pictures import (
    EDIT_KINDS,
    AskedEdit,
    EditKind,
    asked_edit,
    edits,
    generation,
    judged,
    names_asked,
    names_seen,
    shows,
)
from superlink.workflows.eval.report import Metric


def page(
    *squares: tuple[tuple[int, int, int], int, int], paper: tuple[int, int, int] = (255, 255, 255)
) -> np.ndarray:
    pixels = np.full((96, 96, 3), paper, np.uint8)
    for color, x, y in squares:
        pixels[y : y + 24, x : x + 24] = color
    return pixels


RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 128, 0)
BEFORE = page((RED, 10, 10), (BLUE, 60, 60))
AFTER: dict[EditKind, np.ndarray] = {
    "recolor": page((GREEN, 10, 10), (BLUE, 60, 60)),
    "remove": page((BLUE, 60, 60)),
    "add": page((RED, 10, 10), (BLUE, 60, 60), (GREEN, 60, 10)),
    "background": page((RED, 10, 10), (BLUE, 60, 60), paper=(255, 255, 0)),
}


def asked(kind: EditKind) -> AskedEdit:
    found = asked_edit(kind, BEFORE, AFTER[kind])
    assert found is not None
    return found


def values(metrics: list[Metric]) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics}


def test_a_picture_shows_what_was_asked_for_as_often_as_it_was() -> None:
    assert sorted(names_seen(BEFORE)) == ["blue square", "red square"]
    assert shows(BEFORE, ["red square"])
    assert shows(BEFORE, ["blue square", "red square"])
    assert not shows(BEFORE, ["red square", "red square"])
    assert not shows(BEFORE, ["red circle"])
    assert not shows(BEFORE, ["green square"])
    assert not shows(None, ["red square"])


def test_a_reference_is_asked_for_as_a_whole_or_not_at_all() -> None:
    assert sorted(names_asked(BEFORE)) == ["blue square", "red square"]
    barred = BEFORE.copy()
    barred[48:54, 5:80] = GREEN
    assert names_asked(barred) == []


def test_generation_is_counted_by_the_number_of_things() -> None:
    made = [BEFORE, BEFORE, None]
    metrics = generation(made, [["red square"], ["red square", "blue square"], ["red square", "green star"]])
    assert values(metrics) == {"one object, shape and colour": 1.0, "two objects, shape and colour": 0.5}
    assert [metric.count for metric in metrics] == [1, 2]
    with pytest.raises(ValueError, match="1 pictures were asked for but 3 came"):
        generation(made, [["red square"]])


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_the_right_result_is_right_and_no_other_is(kind: EditKind) -> None:
    assert judged(asked(kind), AFTER[kind]).is_right
    for other in EDIT_KINDS:
        if other != kind:
            assert not judged(asked(kind), AFTER[other]).is_right
    assert not judged(asked(kind), BEFORE).made
    assert not judged(asked(kind), None).is_right


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_that_spoils_the_rest_is_made_but_not_right(kind: EditKind) -> None:
    spoiled = AFTER[kind].copy()
    spoiled[60:84, 60:84] = (0, 0, 90)
    result = judged(asked(kind), spoiled)
    kept = int(np.count_nonzero(asked(kind).kept))
    change = np.abs(spoiled[60:84, 60:84].astype(int) - BLUE).sum()
    if kind == "background":
        kept = 2 * (24 - 6) ** 2  # both squares without their margin
        change = change * (24 - 6) ** 2 / 24**2
    assert result.made
    # where the added thing stands is not counted as the rest either
    tolerance = 0.2 if kind == "add" else 1e-3
    assert result.change == pytest.approx(change / 255 / 3 / kept, rel=tolerance)


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_that_loses_another_thing_is_not_right_however_small_it_is(kind: EditKind) -> None:
    small = BEFORE.copy(), AFTER[kind].copy()
    for pixels in small:
        pixels[80:90, 10:20] = (255, 165, 0)
    found = asked_edit(kind, *small)
    assert found is not None
    assert judged(found, small[1]).is_right
    lost = small[1].copy()
    lost[80:90, 10:20] = lost[0, 0]
    result = judged(found, lost)
    assert result.made
    assert result.lost == 1
    assert not result.is_right


def test_an_edit_that_the_picture_shows_already_is_not_asked_for() -> None:
    yellow = page((RED, 10, 10), paper=(255, 255, 0))
    assert asked_edit("background", yellow, page((RED, 10, 10), paper=(250, 240, 0))) is None


def test_an_added_thing_may_stand_elsewhere_in_its_corner_and_not_in_another() -> None:
    nearby = page((RED, 10, 10), (BLUE, 60, 60), (GREEN, 66, 4))
    elsewhere = page((RED, 10, 10), (BLUE, 60, 60), (GREEN, 8, 64))
    assert judged(asked("add"), nearby).is_right
    assert not judged(asked("add"), elsewhere).made


def test_a_result_of_another_size_is_compared_at_the_size_of_the_picture() -> None:
    large = np.asarray(Image.fromarray(AFTER["recolor"]).resize((192, 192), Image.Resampling.NEAREST))
    assert judged(asked("recolor"), large).is_right


def test_edits_are_counted_by_kind() -> None:
    found = edits([asked(kind) for kind in EDIT_KINDS], [AFTER["recolor"], BEFORE, AFTER["add"], None])
    assert values(found) == {
        "recolor": 1.0,
        "recolor, rest within 0.04": 1.0,
        "recolor, change made": 1.0,
        "remove": 0.0,
        "remove, rest within 0.04": 0.0,
        "remove, change made": 0.0,
        "add": 1.0,
        "add, rest within 0.04": 1.0,
        "add, change made": 1.0,
        "background": 0.0,
        "background, rest within 0.04": 0.0,
        "background, change made": 0.0,
        "change of the rest": pytest.approx(0.25),
    }


def test_an_edit_that_loses_another_thing_is_counted_apart() -> None:
    large = np.full((400, 400, 3), 255, np.uint8)
    large[:100, :100] = RED
    before, after = large.copy(), large.copy()
    before[350:380, 350:380] = after[350:380, 350:380] = GREEN
    after[:100, :100] = BLUE
    lost = after.copy()
    lost[350:380, 350:380] = 255
    edit = asked_edit("recolor", before, after)
    assert edit is not None
    found = values(edits([edit], [lost]))
    assert (found["recolor"], found["recolor, rest within 0.04"]) == (0.0, 1.0)


def test_a_reference_that_cannot_be_read_is_left_out() -> None:
    assert asked_edit("recolor", BEFORE, BEFORE) is None
    noise = np.random.default_rng(0).integers(0, 256, BEFORE.shape, dtype=np.uint8)
    assert asked_edit("add", BEFORE, noise) is None
    with pytest.raises(ValueError, match="cannot become one"):
        asked_edit("add", BEFORE, noise[:50])
