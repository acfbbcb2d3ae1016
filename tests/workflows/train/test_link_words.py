from __future__ import annotations

import math

import pytest
import torch

from superlink.router.batch import RowLink
from superlink.router.messages import Message
from superlink.router.tokens import RoutingToken
from superlink.workflows.data.samples import Sample
from superlink.workflows.train.link_words import link_words_loss, words_of
from superlink.workflows.train.recipes import shapes_tokenizer

DET = RoutingToken(text="[DET]", decoder="grounding_dino", table="det", num_links=3)


def a_link(embeddings: torch.Tensor) -> RowLink:
    return RowLink(token=DET, position=0, embeddings=embeddings)


def test_every_phrase_of_every_answer_is_spelled_as_inside_a_sentence() -> None:
    tokenizer = shapes_tokenizer(400, ["the red circle and the star", "a red star"])
    sample = Sample(
        conversation=(
            Message(role="user", text="find the red circle"),
            Message(role="assistant", text="Here: <det>red circle</det>[DET]."),
            Message(role="user", text="and the stars"),
            Message(role="assistant", text="Here: <det>star</det>[DET]."),
        ),
        image=None,
        targets=(),
        task="dialogue",
    )
    first, second = words_of(sample, ("[DET]",), tokenizer)
    assert set(first) == set(tokenizer.encode(" red circle"))
    assert set(second) == set(tokenizer.encode(" star"))


def test_the_loss_is_the_cross_entropy_of_an_even_share_of_the_phrase() -> None:
    head = torch.nn.Identity()  # the mean embedding is the logits
    embeddings = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [9.0, 9.0, 9.0]])
    result = link_words_loss([[a_link(embeddings)]], [((0, 1),)], head)
    assert result is not None
    loss, count = result
    normaliser = math.log(2 * math.e + 1)
    assert count == 1
    assert loss.item() == pytest.approx(normaliser - 1.0, abs=1e-6)


def test_the_last_embedding_of_a_link_is_free_to_write_the_next_word() -> None:
    embeddings = torch.randn(3, 4, requires_grad=True)
    result = link_words_loss([[a_link(embeddings)]], [((1,),)], torch.nn.Identity())
    assert result is not None
    result[0].backward()
    assert embeddings.grad is not None
    assert embeddings.grad[2].abs().sum() == 0
    assert embeddings.grad[:2].abs().sum() > 0


def test_rows_that_lost_their_oldest_rounds_keep_the_words_of_the_last_ones() -> None:
    embeddings = torch.eye(3)
    whole = link_words_loss([[a_link(embeddings)]], [((2,), (0,))], torch.nn.Identity())
    last = link_words_loss([[a_link(embeddings)]], [((0,),)], torch.nn.Identity())
    assert whole is not None
    assert last is not None
    torch.testing.assert_close(whole[0], last[0])


def test_a_batch_without_links_has_no_such_loss() -> None:
    assert link_words_loss([[], []], [(), ()], torch.nn.Identity()) is None
