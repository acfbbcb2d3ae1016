"""Visual tokens name what is at their place."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from superlink.decoders.artifacts import Masks
from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.shapes_samples import ShapesSamples
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Source, Stage
from superlink.workflows.train.data import without_pictures
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.patch_words import PATCH_WORDS, PatchGoal, patch_goal, patch_words_loss
from tests.workflows.train.tiny_system import COLOURS, router_config, tokenizer, toy_config

ROUTER = router_config()  # one tile of 2 x 2 visual tokens


def shown(masks: list[np.ndarray], names: tuple[str, ...]) -> Masks:
    stacked = np.stack(masks)
    return Masks(
        masks=stacked,
        xyxy=np.zeros((len(masks), 4), np.float32),
        scores=np.ones(len(masks), np.float32),
        labels=np.arange(len(masks)),
        names=names,
        size=stacked.shape[1:],
    )


def sample_of(known: Masks | None, picture: np.ndarray | None = None, source: str = "") -> Sample:
    pixels = np.zeros((8, 8, 3), np.uint8) if picture is None else picture
    return Sample(
        conversation=(
            Message(role="user", text="find red", images=(pixels,)),
            Message(role="assistant", text="hi there"),
        ),
        image=None,
        targets=(),
        task="toy",
        source=source,
        shown=known,
    )


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_a_token_speaks_of_the_things_in_its_square_by_their_shares() -> None:
    """Red has all of the first; a quarter of the second, whose rest is blue; blue 2 pixels of the third."""
    red, blue = rectangle(0, 0, 4, 5), rectangle(0, 5, 4, 8)
    blue[4:5, 0:2] = True
    goal = patch_goal(sample_of(shown([red, blue], ("red", "blue"))), tokenizer(), ROUTER)
    assert goal is not None
    of = {int(place): share.tolist() for place, share in zip(goal.places, goal.shares, strict=True)}
    assert of[0] == [1.0, 0.0, 0.0]
    assert of[1] == [0.25, 0.75, 0.0]
    assert 2 not in of  # too little to name, too much to be empty
    assert [set(ids) for ids in goal.words[:2]] == [set(tokenizer().encode(f" {n}")) for n in ("red", "blue")]


def test_of_empty_squares_every_fourth_says_nothing_and_which_one_depends_on_the_sample() -> None:
    spoken = []
    for source in ("a", "b", "c", "d"):
        goal = patch_goal(
            sample_of(shown([rectangle(0, 0, 0, 0)], ("red",)), source=source), tokenizer(), ROUTER
        )
        assert goal is not None
        assert goal.shares.tolist() == [[0.0, 1.0]]
        assert set(goal.words[-1]) == set(tokenizer().encode(" nothing"))
        spoken += goal.places.tolist()
    assert sorted(spoken) == [0, 1, 2, 3]


def test_masks_of_a_padded_picture_are_padded_with_it() -> None:
    """A picture of 4 x 8 pixels lies in the middle of its tile, where 2 of 16 pixels are too few to name."""
    wide = np.zeros((4, 8, 3), np.uint8)
    known = shown([rectangle(3, 0, 4, 2, (4, 8))], ("red",))
    padded = patch_goal(sample_of(known, wide), tokenizer(), replace(ROUTER, tiling="pad"))
    squashed = patch_goal(sample_of(known, wide), tokenizer(), ROUTER)
    assert padded is not None
    assert squashed is not None
    assert 2 not in padded.places.tolist()
    assert 2 in squashed.places.tolist()  # twice as tall there: 4 of 16


@pytest.mark.parametrize("pictures", [(), (np.zeros((8, 9, 3), np.uint8),)])
def test_masks_of_another_picture_or_of_none_are_refused(pictures: tuple[np.ndarray, ...]) -> None:
    sample = sample_of(shown([rectangle(0, 0, 4, 4)], ("red",)), source="mine:3")
    user, reply = sample.conversation
    other = replace(sample, conversation=(replace(user, images=pictures), reply))
    with pytest.raises(DataError, match="'mine:3' tells what a picture of 8 x 8 shows, its last one is"):
        patch_goal(other, tokenizer(), ROUTER)


def test_the_loss_is_the_cross_entropy_of_shares_of_words() -> None:
    goal = PatchGoal(
        words=((0, 1), (2,)), places=torch.tensor([1]), shares=torch.tensor([[0.5, 0.5]])
    )  # a quarter each of words 0 and 1, half of word 2
    tokens = torch.tensor([[[9.0, 9.0, 9.0], [1.0, 2.0, 3.0]]])
    total, count = patch_words_loss(tokens, [goal], torch.nn.Identity(), torch.nn.Identity())
    normaliser = math.log(math.e + math.e**2 + math.e**3)
    assert count == 1
    assert total.item() == pytest.approx(normaliser - (0.25 * 1 + 0.25 * 2 + 0.5 * 3), abs=1e-5)


class OneColour:
    """Pictures whose left half is a colour, by its name."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Sample:
        name = list(COLOURS)[index % 3]
        picture = np.full((8, 8, 3), 128, np.uint8)
        picture[:, :4] = COLOURS[name]
        return sample_of(shown([rectangle(0, 0, 8, 4)], (name,)), picture, f"one:{index}")


def loop_of(folder: Path, **changes: Any) -> TrainLoop:
    stage = Stage(name="s", mixture=(Source(name="one", open=OneColour),), **changes)
    config = toy_config(stages=(stage,), loss_weights={PATCH_WORDS: 0.5})
    return TrainLoop(config, folder, collective=Alone(), device=torch.device("cpu"))


def test_a_vision_tower_learns_to_name_colours_without_the_language_model(tmp_path: Path) -> None:
    eyes = ("router.vision_tower.*", "router.bridge.*")
    loop = loop_of(tmp_path, steps=60, lr=5e-3, lesson="patches", trainable=eyes)
    torch.nn.init.normal_(loop.module.router.language.lm_head.weight)  # words that have been learned differ
    before = {name: value.clone() for name, value in loop.module.state_dict().items()}
    ran: list[int] = []
    loop.module.router.language.model.register_forward_hook(lambda *_: ran.append(1))
    assert loop.run()
    after = loop.module.state_dict()
    changed = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"vision_tower", "bridge"}
    assert ran == []
    losses = [line["losses"] for line in read_lines(tmp_path / "metrics.jsonl")]
    assert set(losses[0]) == {"total", PATCH_WORDS}
    assert losses[-1][PATCH_WORDS] < 0.5 * losses[0][PATCH_WORDS]


def test_the_term_is_the_same_beside_the_language_loss_and_alone(tmp_path: Path) -> None:
    """Rows with and without pictures; one of them has an earlier picture, too."""
    module = loop_of(tmp_path, steps=1, lr=0.0).module
    one, two = OneColour()[0], OneColour()[1]
    earlier = Message(role="user", text="hello", images=one.conversation[0].images)
    later = replace(two, conversation=(earlier, one.conversation[1], *two.conversation))
    samples = [one, without_pictures(one), later, sample_of(None)]
    terms = {}
    for lesson in ("all", "patches"):
        batch = module.prepare(samples, lesson=lesson)  # type: ignore[arg-type]
        assert sorted(batch.goals) == [0, 2]
        terms[lesson] = module(batch, batch.counts)
    assert set(terms["patches"]) == {PATCH_WORDS}
    assert set(terms["all"]) >= {PATCH_WORDS, "language"}
    torch.testing.assert_close(terms["all"][PATCH_WORDS], terms["patches"][PATCH_WORDS])


def test_what_the_router_alone_sees_says_what_is_shown() -> None:
    samples = ShapesSamples(20, seed=3, targets=False)
    for index in range(20):
        known = samples[index].shown
        assert known is not None
        things = samples.scene(index).objects
        assert sorted(f"{item.color} {item.shape}" for item in things) == sorted(
            known.names[label] for label in known.labels
        )
        np.testing.assert_array_equal(
            np.any(known.masks, axis=0), np.any([item.mask for item in things], axis=0)
        )
