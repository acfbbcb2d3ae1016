from __future__ import annotations

import numpy as np
import pytest

from superlink.decoders.artifacts import Keypoints, Masks, Picture
from superlink.workflows.data.instructions.answers import expected_routing
from superlink.workflows.data.instructions.mix import ShapesMix
from superlink.workflows.data.instructions.words import COLORS
from superlink.workflows.data.samples import iterate
from superlink.workflows.data.scene_tasks.answers import objects_named
from superlink.workflows.data.shapes import SceneConfig
from superlink.workflows.data.shapes_samples import ShapesSamples, scene_seed
from superlink.workflows.eval.heldout import FIRST_STREAM, HeldoutSamples, can_be_scored
from superlink.workflows.eval.pictures import EDIT_KINDS, AskedEdit, asked_edit

SMALL = SceneConfig(height=128, width=128, other_canvas=0.0)


@pytest.mark.parametrize("task", ["pose", "generate", "edit"])
def test_most_of_what_is_drawn_can_be_scored(task: str) -> None:
    samples = ShapesSamples(12, seed=7, split="heldout", mix=ShapesMix.only(task), scenes=SMALL)
    assert np.mean([can_be_scored(sample) for sample in iterate(samples)]) >= 0.65


def test_a_sample_that_cannot_be_scored_gives_way_to_another_whatever_the_length() -> None:
    drawn = ShapesSamples(12, seed=FIRST_STREAM, split="heldout", mix=ShapesMix.only("interactive"))
    given = HeldoutSamples("interactive", 12)
    kept = [one.source == other.source for one, other in zip(iterate(drawn), iterate(given), strict=True)]
    assert kept == [can_be_scored(sample) for sample in iterate(drawn)]
    assert 0 < sum(kept) < 12
    assert HeldoutSamples("interactive", 500)[kept.index(False)].source == given[kept.index(False)].source
    with pytest.raises(IndexError, match="sample 12 of 12"):
        given[12]


def test_one_thing_is_marked_and_its_mask_is_wanted() -> None:
    for sample in iterate(HeldoutSamples("interactive", 8, seed=1)):
        assert len(sample.conversation[0].prompts) == 1
        ((token, artifact),) = [(target.token, target.artifact) for target in sample.targets]
        assert token == "[SEG]"
        assert isinstance(artifact, Masks)
        assert artifact.phrases == ("region1",)


def test_answers_in_words_are_short_and_captions_name_something() -> None:
    for sample in iterate(HeldoutSamples("vqa", 8)):
        assert sample.answer is not None
        assert sample.answer.rstrip(".") == sample.answer.lower()
    for sample in iterate(HeldoutSamples("captions", 8)):
        assert objects_named(sample.answer or "")


def test_every_person_has_a_keypoint_to_be_found() -> None:
    for sample in iterate(HeldoutSamples("keypoints", 12)):
        (target,) = sample.targets
        assert isinstance(target.artifact, Keypoints)
        assert (target.artifact.xyv[..., 2] > 0).any(axis=1).all()


def said(asked: AskedEdit, phrase: str) -> bool:
    """Whether words such as "make the leftmost disc violet" ask for the edit that was read from pictures."""
    if asked.kind == "background":
        return COLORS[phrase.rsplit(maxsplit=1)[-1]] == asked.paper
    assert asked.thing is not None
    if asked.kind == "recolor":
        return COLORS[phrase.rsplit(maxsplit=1)[-1]] == asked.thing.color
    named = objects_named(phrase)
    return not named or (asked.thing.color, asked.thing.shape) in named


def test_the_judge_reads_from_pictures_the_edit_that_the_words_ask_for() -> None:
    kinds = set()
    for sample in iterate(HeldoutSamples("edits", 12, seed=4)):
        ((_, phrase),) = expected_routing(sample)
        (target,) = sample.targets
        assert isinstance(target.artifact, Picture)
        assert sample.image is not None
        (kind,) = (one for one in EDIT_KINDS if sample.task == f"edit/{one}")
        asked = asked_edit(kind, sample.image, target.artifact.pixels)
        assert asked is not None
        assert said(asked, phrase), phrase
        kinds.add(kind)
    assert len(kinds) >= 3


def test_no_stream_of_training_shares_scenes_with_an_evaluation() -> None:
    asked = [scene_seed("heldout", FIRST_STREAM + seed, 0) for seed in range(20)]
    trained = [scene_seed("train", seed, 0) for seed in range(2000)]
    trained += [scene_seed("heldout", seed, 0) for seed in range(2000)]
    assert not {seed >> 31 for seed in asked} & {seed >> 31 for seed in trained}
