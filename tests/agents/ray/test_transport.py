from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from superlink.agents.pictures import picture_id
from superlink.agents.ray.transport import (
    PictureStore,
    packed_calls,
    packed_outcomes,
    packed_requests,
    unpacked_calls,
    unpacked_outcomes,
    unpacked_requests,
)
from superlink.decoders.artifacts import Boxes, Masks, equal
from superlink.decoders.contract import Call, Failure, Result
from superlink.router.errors import LinkError
from superlink.router.links import SuperLink
from superlink.router.messages import Message
from superlink.router.requests import GenerateOptions, Request
from superlink.router.tokens import RoutingToken
from tests.agents.tiny_model import scene

TOKEN = RoutingToken(text="[DET]", decoder="d", table="det")


def link(embeddings: torch.Tensor) -> SuperLink:
    return SuperLink(token=TOKEN, embeddings=embeddings, phrase="thing", position=0)


def call(number: int, image: Any = None, embeddings: torch.Tensor | None = None) -> Call:
    own = torch.full((4, 8), float(number)) if embeddings is None else embeddings
    return Call(id=f"d.{number}", links=(link(own),), image=image, image_id="", seed=number)


def test_pictures_travel_once_and_come_back_where_they_were() -> None:
    put: list[np.ndarray] = []
    store = PictureStore(lambda picture: put.append(picture) or len(put) - 1)
    one, two = scene(seed=1), scene(seed=2)
    calls = [call(0, one), call(1), call(2, two), call(3, one.copy())]
    content, rest, refs = packed_calls(calls, store)
    assert refs == [0, 1]
    assert len(content) < one.nbytes  # no picture is in it
    assert rest is None
    back = unpacked_calls(content, rest, [put[ref] for ref in refs])
    for before, after in zip(calls, back, strict=True):
        assert (before.id, before.seed) == (after.id, after.seed)
        assert torch.equal(before.links[0].embeddings, after.links[0].embeddings)
        assert (before.image is None) == (after.image is None)
        if before.image is not None:
            assert np.array_equal(before.image, after.image)
    _, _, again = packed_calls([call(0, two)], store)
    assert (again, store.puts) == ([1], 2)


def test_requests_keep_their_pictures_in_their_messages() -> None:
    put: list[np.ndarray] = []
    store = PictureStore(lambda picture: put.append(picture) or len(put) - 1)
    one, two = scene(seed=1), scene(seed=2)
    talk = (
        Message(role="user", text="These.", images=(one, two)),
        Message(role="assistant", text="Yes."),
        Message(role="user", text="That.", images=(one,)),
    )
    requests = [
        Request(conversation=talk, options=GenerateOptions(seed=3)),
        Request(conversation=talk[:1], deadline=2.0),
    ]
    parcel, refs = packed_requests(requests, store)
    assert len(put) == 2
    back = unpacked_requests(parcel, [put[ref] for ref in refs])
    for before, after in zip(requests, back, strict=True):
        assert (before.options, before.deadline) == (after.options, after.deadline)
        for sent, found in zip(before.conversation, after.conversation, strict=True):
            assert sent.text == found.text
            assert [picture_id(image) for image in sent.images] == [
                picture_id(image) for image in found.images
            ]


def test_the_store_lets_go_of_what_was_used_least_recently() -> None:
    put: list[np.ndarray] = []
    pictures = [scene(seed=seed) for seed in range(4)]
    store = PictureStore(lambda picture: put.append(picture), limit=2 * pictures[0].nbytes)
    for number in (0, 1, 0, 2, 0, 1):
        store.ref(pictures[number])
    assert store.puts == 4  # 0 stayed, 1 was put again


@pytest.mark.parametrize(
    "grown", [torch.ones(4, 8, requires_grad=True) * 2, torch.ones(4, 8, requires_grad=True)]
)
def test_a_link_with_a_graph_is_refused(grown: torch.Tensor) -> None:
    with pytest.raises(LinkError, match=r"'thing' has an autograd graph.*detached"):
        packed_calls([call(0, embeddings=grown)], PictureStore(lambda picture: None))


def test_a_view_ships_its_own_numbers_alone() -> None:
    whole = torch.randn(2048, 64)
    content, rest, _ = packed_calls([call(0, embeddings=whole[5:9])], PictureStore(lambda picture: None))
    assert len(content) < 5000
    (back,) = unpacked_calls(content, rest, [])
    assert torch.equal(back.links[0].embeddings, whole[5:9])


@pytest.mark.parametrize(
    "column", [torch.randn(4, 8)[:, 2:3], torch.randn(4).as_strided((4, 1), (1, 8))], ids=["apart", "odd"]
)
def test_a_column_crosses_too(column: torch.Tensor) -> None:
    content, rest, _ = packed_calls([call(0, embeddings=column)], PictureStore(lambda picture: None))
    (back,) = unpacked_calls(content, rest, [])
    assert torch.equal(back.links[0].embeddings, column)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_call_crosses_with_all_that_it_says(dtype: torch.dtype) -> None:
    boxes = Boxes(
        xyxy=np.array([[0, 0, 4, 4]], np.float32),
        scores=np.ones(1, np.float32),
        labels=np.zeros(1, np.int64),
        names=("a",),
        size=(8, 8),
    )
    sent = Call(
        id="d.7",
        links=(
            link(torch.randn(8, 4).T.to(dtype)),
            link(torch.zeros(4, 8, dtype=dtype)),
        ),  # one not contiguous
        image_id="abc",
        inputs=(boxes,),
        seed=3,
        threshold=0.25,
        options={"steps": 4, "names": ("b", "c")},
    )
    for one in (sent, replace(sent, inputs=(), options={})):
        content, rest, _ = packed_calls([one, call(1)], PictureStore(lambda picture: None))
        back, _ = unpacked_calls(content, pickle.loads(pickle.dumps(rest)), [])
        for name in ("id", "image", "image_id", "seed", "threshold", "options"):
            assert getattr(back, name) == getattr(one, name)
        assert len(back.inputs) == len(one.inputs)
        assert all(equal(a, b) for a, b in zip(back.inputs, one.inputs, strict=True))
        for came, went in zip(back.links, one.links, strict=True):
            assert (came.token, came.phrase, came.position) == (went.token, went.phrase, went.position)
            assert came.embeddings.dtype == dtype
            assert torch.equal(came.embeddings, went.embeddings)


@pytest.mark.parametrize("side", [64, 512])  # as bytes, and through the store
def test_what_comes_home_is_ones_own(side: int) -> None:
    masks = np.zeros((1, side, side), np.bool_)
    masks.flags.writeable = False  # as what comes from the store is
    sent = Masks(
        masks=masks,
        xyxy=np.zeros((1, 4), np.float32),
        scores=np.ones(1, np.float32),
        labels=np.zeros(1, np.int64),
        names=("a",),
        size=(side, side),
    )
    failure = Failure(call_id="d.1", error="no", kind="lost")
    packed = packed_outcomes([Result(call_id="d.0", artifact=sent), failure])
    assert isinstance(packed, bytes) == (side == 64)
    result, failed = unpacked_outcomes(packed)
    assert isinstance(result, Result)
    assert isinstance(result.artifact, Masks)
    assert equal(result.artifact, sent)
    result.artifact.masks[0, 0, 0] = True
    assert not masks.any()
    assert isinstance(failed, Failure)
    assert (failed.call_id, failed.error, failed.kind) == ("d.1", "no", "lost")
