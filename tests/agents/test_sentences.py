"""The sentences of tools and steps."""

from __future__ import annotations

from superlink.agents import sentences


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
