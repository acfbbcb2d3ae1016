"""Tasks about scenes: balanced, answerable from the scene alone, and ready for the decoders."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture
from superlink.decoders.contract import DecoderConfig
from superlink.decoders.diffusion.tiny import tiny_instruct_pix2pix, tiny_stable_diffusion
from superlink.router.phrases import parse_reply
from superlink.router.prompts import prompt_mask
from superlink.router.tokens import ROUTING_TEXTS
from superlink.workflows.data.instructions.answers import expected_routing
from superlink.workflows.data.scene_tasks import SCENE_TASKS
from superlink.workflows.data.scene_tasks.answers import objects_named
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS
from superlink.workflows.data.shapes.colors import color_name
from superlink.workflows.train.plan import plan_calls, routing_tokens
from superlink.workflows.train.recipes import tiny_detector
from tests.decoders.unipose.poses import tiny as tiny_unipose
from tests.workflows.data.streams import LENGTH, some, stream

indices = st.integers(0, LENGTH - 1)
splits = st.sampled_from(("train", "heldout"))


@cache
def systems() -> dict[str, DecoderConfig]:
    configs = (tiny_detector(), tiny_unipose(), tiny_stable_diffusion(), tiny_instruct_pix2pix())
    return {config.name: config for config in configs}


@pytest.mark.parametrize("task", SCENE_TASKS)
@settings(max_examples=12)
@given(index=indices, split=splits)
def test_a_sample_is_a_conversation_whose_calls_can_be_planned(task: str, index: int, split: str) -> None:
    sample = stream(task, split=split)[index]
    assert sample.task.partition("/")[0] == task
    assert [message.role for message in sample.conversation] == ["user", "assistant"] * (
        len(sample.conversation) // 2
    )
    for message in sample.conversation:
        assert message.text.strip() == message.text != ""
        if message.role == "user":
            assert not re.search(r"[{}~]|</?det>|\[[A-Z]{3,4}\]", message.text)
    picture = None
    for message in sample.conversation:
        picture = message.images[-1] if message.images else picture
        for prompt in message.prompts:
            assert picture is not None
            assert prompt_mask(prompt, picture.shape[:2]).any()
    assert (picture is None) == (sample.image is None)
    if picture is not None and sample.image is not None:
        np.testing.assert_array_equal(picture, sample.image)
    planned = plan_calls(sample, systems(), routing_tokens(list(systems().values())))
    assert len(planned) == len(sample.targets)
    read = parse_reply(sample.conversation[-1].text, ROUTING_TEXTS)
    assert list(read.phrases) == [phrase for _, phrase in expected_routing(sample)]


@pytest.mark.parametrize("task", SCENE_TASKS)
def test_the_same_index_always_gives_the_same_sample(task: str) -> None:
    first, second = (stream(task, seed=4)[77] for _ in range(2))
    assert [m.text for m in first.conversation] == [m.text for m in second.conversation]
    assert first.answer == second.answer
    if first.image is not None and second.image is not None:
        np.testing.assert_array_equal(first.image, second.image)


def test_keypoints_are_those_that_were_asked_for_of_the_people_in_the_picture() -> None:
    people = 0
    samples = stream("pose")
    for index in range(40):
        sample = samples[index]
        ((token, target),) = [(one.token, one.artifact) for one in sample.targets]
        assert token == "[POSE]"
        assert isinstance(target, Keypoints)
        routed = expected_routing(sample)
        assert target.keypoint_names == tuple(name for token, name in routed if token == "[POSE]")
        assert set(target.keypoint_names) <= set(KEYPOINTS)
        people += len(target)
        for xyv, (x0, y0, x1, y1) in zip(target.xyv, target.xyxy, strict=True):
            seen = xyv[xyv[:, 2] == 2]
            assert np.all((seen[:, 0] >= x0 - 1) & (seen[:, 0] <= x1 + 1))
            assert np.all((seen[:, 1] >= y0 - 1) & (seen[:, 1] <= y1 + 1))
    assert people > 25


def test_asking_for_the_wrists_means_both_in_reading_order() -> None:
    for sample in some("pose", 150):
        said = sample.conversation[0].text.lower()
        if re.search(r"\bwrists\b", said) and "arms" not in said and " wrist " not in said:
            names = [name for token, name in expected_routing(sample) if token == "[POSE]"]
            assert names.index("right wrist") == names.index("left wrist") + 1


def test_a_made_picture_shows_what_its_words_say() -> None:
    """Judged from the pixels alone: the colours, and how many blobs of each."""
    from scipy.ndimage import label

    for sample in some("generate", 60):
        (target,) = sample.targets
        assert isinstance(target.artifact, Picture)
        pixels = target.artifact.pixels
        page = tuple(pixels[0, 0])
        (token, phrase), *_ = expected_routing(sample)
        assert token == "[GEN]"
        assert sample.answer is not None
        blobs: Counter[str] = Counter()
        colors, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
        most = max(counts[np.any(colors != page, axis=1)])
        for color, count in zip(colors, counts, strict=True):
            if count > 0.15 * most and tuple(color) != page:  # soft edges have many shades
                _, found = label(np.all(pixels == color, axis=2), structure=np.ones((3, 3)))
                name = color_name((int(color[0]), int(color[1]), int(color[2])))
                blobs[name or ""] += found
        asked: Counter[str] = Counter()
        for (color_word, _), number in objects_named(sample.answer).items():
            asked[color_word] += number
        # Two things of one colour have one shade; limbs of people may come apart at 128 pixels.
        assert set(blobs) == set(asked), phrase
        if "person" not in sample.answer and "people" not in sample.answer:
            assert blobs == asked, phrase
        if " on a" in phrase:
            assert color_name((int(page[0]), int(page[1]), int(page[2]))) is not None


def test_left_and_above_are_where_the_words_say() -> None:
    checked = 0
    for sample in some("generate", 150):
        (_, phrase), *_ = expected_routing(sample)
        found = re.search(r"\b(left of|right of|above|over|below|under)\b", phrase)
        assert sample.answer is not None
        kinds = list(objects_named(sample.answer))
        if found is None or len({color for color, _ in kinds}) < 2:
            continue
        pixels = sample.targets[0].artifact
        assert isinstance(pixels, Picture)
        centers = []
        for color, _ in kinds:
            named = np.array(
                [[color_name(tuple(map(int, p))) == color for p in row] for row in pixels.pixels[::4, ::4]]
            )
            page = color_name(tuple(map(int, pixels.pixels[0, 0])))  # type: ignore[arg-type]
            if page == color:
                break
            centers.append(np.argwhere(named).mean(axis=0))
        if len(centers) < 2:
            continue
        (y0, x0), (y1, x1) = centers
        word = found[1]
        assert {"left of": x0 < x1, "right of": x0 > x1}.get(
            word, y0 < y1 if word in ("above", "over") else y0 > y1
        )
        checked += 1
    assert checked > 15


def test_an_edit_leaves_most_of_the_picture_and_changes_some() -> None:
    kinds: Counter[str] = Counter()
    for sample in some("edit", 60):
        (target,) = sample.targets
        assert target.token == "[EDIT]"
        assert isinstance(target.artifact, Picture)
        assert sample.image is not None
        changed = (target.artifact.pixels != sample.image).any(axis=2)
        kinds[sample.task] += 1
        assert changed.any()
        if sample.task != "edit/background":
            assert changed.mean() < 0.6
        else:
            assert changed.mean() > 0.3
    assert set(kinds) == {f"edit/{kind}" for kind in ("recolor", "remove", "add", "background")}


def test_a_sentence_can_need_two_decoders() -> None:
    seen: Counter[tuple[str, ...]] = Counter()
    for sample in some("compose", 60):
        tokens = tuple(target.token for target in sample.targets)
        assert len(set(tokens)) == 2
        seen[tokens] += 1
        assert tokens == tuple(dict.fromkeys(token for token, _ in expected_routing(sample)))
    assert {("[DET]", "[GEN]"), ("[DET]", "[EDIT]"), ("[SEG]", "[GEN]")} <= set(seen)


def test_examples_are_of_the_kind_that_is_wanted_in_the_last_picture() -> None:
    styles: Counter[bool] = Counter()
    for sample in some("in_context", 50):
        pictures = [image for message in sample.conversation for image in message.images]
        assert 2 <= len(pictures) <= 4
        ((token, name),) = expected_routing(sample)
        (target,) = sample.targets
        assert target.token == token
        assert isinstance(target.artifact, Masks if token == "[SEG]" else Boxes)
        assert target.artifact.names == (name,)
        styles[len(sample.conversation) == 2] += 1
    assert min(styles.values()) > 10


@pytest.mark.parametrize("kind", ["point", "box", "scribble", "mask"])
def test_every_kind_of_prompt_asks_for_the_masks_it_lies_on(kind: str) -> None:
    found = [sample for sample in some("interactive", 60) if sample.task == f"interactive/{kind}"]
    assert len(found) > 5
    for sample in found:
        (target,) = sample.targets
        assert isinstance(target.artifact, Masks)
        prompts = sample.conversation[0].prompts
        assert {type(prompt).__name__.lower() for prompt in prompts} == {kind}
        assert target.artifact.names == tuple(f"region{k}" for k in range(1, len(prompts) + 1))
        for prompt, mask in zip(prompts, target.artifact.masks, strict=True):
            assert (prompt_mask(prompt, mask.shape) & mask).any()  # type: ignore[arg-type]
