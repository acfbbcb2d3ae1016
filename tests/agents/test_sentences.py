"""The sentences of tools and steps."""

from __future__ import annotations

import pytest

from superlink.agents import sentences
from superlink.workflows import steps


def test_every_route_is_asked_in_one_plain_sentence() -> None:
    assert sentences.detect(["the  star.", "A ring", "red circle"]) == (
        "Find every star, every ring and every red circle."
    )
    assert sentences.ground("the largest star") == "Find the largest star."
    assert sentences.segment(["an apple!"]) == "Segment every apple."
    assert sentences.pose(["person"]) == "Find the keypoints of every person."
    assert sentences.pose(["cat", "dog"], ["nose", "the left ear"]) == (
        "Find the nose and the left ear of every cat and every dog."
    )
    assert sentences.generate("a blue star. ") == "Paint a blue star."
    assert sentences.edit(" make it green ") == "Make it green."
    assert sentences.edit("Why not blue?") == "Why not blue?"


def test_an_article_goes_and_words_that_begin_like_one_stay() -> None:
    assert sentences.bare("The thermos") == "thermos"
    assert sentences.bare("thermos") == "thermos"
    assert sentences.bare("an") == "an"
    assert sentences.bare("a star", article=True) == "a star"


@pytest.mark.parametrize(
    "phrases", [["star", "red circle", "star"], ["the star", "red circle.", "Star", "a red  circle"]]
)
def test_a_thing_that_is_named_twice_is_asked_for_once(phrases: list[str]) -> None:
    assert sentences.detect(phrases) == "Find every star and every red circle."
    assert sentences.segment(phrases) == "Segment every star and every red circle."
    assert sentences.pose(phrases) == "Find the keypoints of every star and every red circle."
    assert sentences.detect(["Star", "star"]) == "Find every Star."


def test_a_step_asks_once_for_what_it_names_twice_and_keeps_its_ports() -> None:
    asks = steps.detect("star", "the star", "{a} ring", "{A} ring").asks
    assert asks is not None
    assert asks.request(None, "red", "blue").text == "Find every star, every red ring and every blue ring."
