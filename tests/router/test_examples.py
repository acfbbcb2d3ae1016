"""Examples before a question, as the router reads them."""

from __future__ import annotations

import numpy as np
import pytest

from superlink.router.encoding import encode
from superlink.router.errors import InputError
from superlink.router.examples import example_rounds
from superlink.router.messages import Mask, Message, Point
from tests.agents.tiny_model import router_config, scene, tokenizer


def test_every_example_is_a_round_with_its_picture_and_its_region() -> None:
    rounds = example_rounds([(scene(), Point(3, 4)), (scene(seed=1), Point(5, 6))])
    assert [message.role for message in rounds] == ["user", "assistant"] * 2
    assert [message.prompts for message in rounds] == [(Point(3, 4),), (), (Point(5, 6),), ()]
    assert [len(message.images) for message in rounds] == [1, 0, 1, 0]
    assert example_rounds([]) == ()


def test_regions_belong_to_their_own_pictures_once_encoded() -> None:
    question = Message(
        role="user", text="Find the same kind.", images=(scene(seed=2),), prompts=(Point(1, 1),)
    )
    rounds = example_rounds([(scene(), Point(3, 4)), (scene(seed=1), Point(5, 6))])
    config = router_config(tokenizer())
    batch = encode((*rounds, question), tokenizer(), config, training=False)
    assert batch.tile_counts == ((1, 1, 1),)
    assert batch.region_images == ((0, 1, 2),)
    said = tokenizer().decode(batch.input_ids[0].tolist())
    assert said.index("region1") < said.index("region2") < said.index("region3")


def test_a_mask_of_another_size_is_named() -> None:
    good = (scene(), Mask(np.ones((40, 60), np.bool_)))
    with pytest.raises(InputError, match="example 2: a mask prompt must be as large as its picture, 60 x 40"):
        example_rounds([good, (scene(), Mask(np.ones((40, 61), np.bool_)))])
