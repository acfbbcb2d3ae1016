"""Labels of a target against the links of its call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from superlink.decoders.artifacts import Boxes
from superlink.decoders.contract import Call
from superlink.decoders.labels import check_labels
from superlink.router.errors import DataError
from superlink.router.links import SuperLink
from superlink.router.tokens import RoutingToken

DET = RoutingToken(text="[DET]", decoder="grounding_dino", table="det", num_links=1)


def call_of(*phrases: str) -> Call:
    links = (SuperLink(token=DET, embeddings=torch.zeros(1, 4), phrase=one, position=0) for one in phrases)
    return Call(id="det.0", links=tuple(links))


def target_of(names: tuple[str, ...], labels: Sequence[int]) -> Boxes:
    return Boxes(
        xyxy=np.zeros((len(labels), 4), np.float32),
        scores=np.ones(len(labels), np.float32),
        labels=np.array(labels, np.int64),
        names=names,
        size=(8, 8),
    )


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("cat", "dog"), [0, 1, 1]),
        (("cats", "dog"), [0]),
        (("dog", "dog"), [0, 1]),  # the first is a region that shows a dog
        (("dog", "cat"), []),
    ],
)
def test_names_may_be_other_words_for_the_links(names: tuple[str, ...], labels: list[int]) -> None:
    check_labels(call_of("cat", "dog"), target_of(names, labels))


def test_names_in_another_order_than_the_links_are_refused_where_they_are_used() -> None:
    call = call_of("cat", "dog", "bird")
    with pytest.raises(DataError, match="label 1 is 'bird' in the target, but link 1 is 'dog'"):
        check_labels(call, target_of(("cat", "bird", "dog"), [0, 1]))
    check_labels(call, target_of(("cat", "bird", "dog"), [0]))


def test_labels_without_a_link_are_refused() -> None:
    with pytest.raises(DataError, match="labelled -1; labels count the links from 0"):
        check_labels(call_of("cat"), target_of(("cat",), [-1, 0]))
    with pytest.raises(DataError, match="1 links, but a target is labelled 1"):
        check_labels(call_of("cat"), target_of(("cat", "dog"), [1]))
