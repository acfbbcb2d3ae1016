"""Sentences in plain speech: well formed, spread over their kinds, and not drawn by training."""

from __future__ import annotations

import re

from superlink.router.tokens import ROUTING_TEXTS
from superlink.workflows.data.instructions.answers import expected_routing
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS
from superlink.workflows.data.shapes_samples import TextSamples
from superlink.workflows.eval.wordings import SpokenSamples, wordings

IRREGULAR = {"man": "men", "woman": "women", "person": "everyone", "object": "everything"}
EDITS = re.compile(r"make the (.+) (\w+)|remove the (.+)|add an? (.+) (?:in|at|on|to|near|below) .+")
EVERY = wordings(ROUTING_TEXTS)


def is_said(token: str, phrase: str, text: str) -> bool:
    """Whether a sentence has the words of a phrase, in one or another form."""
    said = re.findall(r"\w+", text)
    if token == "[POSE]":  # parts of the body stand for their points
        return phrase in KEYPOINTS
    if token == "[GEN]":
        return phrase in text
    if token == "[EDIT]":
        match = EDITS.fullmatch(phrase)
        return match is not None and all(
            word[:4] in text
            for part in match.groups()
            if part
            for word in part.split()  # people mistype
        )
    # "person" for "people", "man" for "men"
    return any(word.startswith((phrase[:2], IRREGULAR.get(phrase, phrase))) for word in said)


def test_every_sentence_says_what_it_asks_for_in_words_of_its_own() -> None:
    assert len({text.lower() for text, _ in EVERY}) == len(EVERY) >= 1000
    for text, routed in EVERY:
        for token, phrase in routed:
            assert phrase == " ".join(phrase.lower().split())
            assert is_said(token, phrase, text.lower()), (text, token, phrase)


def test_a_system_is_asked_for_nothing_that_it_has_no_token_for() -> None:
    few = wordings({"[DET]", "[SEG]"})
    assert {token for _, routed in few for token, _ in routed} == {"[DET]", "[SEG]"}
    assert {text for text, routed in EVERY if not routed} <= {text for text, _ in few}


def test_an_order_to_edit_is_left_alone_only_by_a_system_that_has_no_editor() -> None:
    order = ("Paint the squares blue.", ())
    assert order in wordings({"[DET]", "[SEG]"})
    assert order not in EVERY
    drawn = ("Draw me a new green diamond.", ())
    assert drawn in wordings({"[DET]", "[EDIT]"})
    assert drawn not in wordings({"[DET]", "[GEN]"})


def test_no_sentence_is_among_the_first_texts_of_training() -> None:
    samples = TextSamples(3000)
    texts = {samples[k].conversation[0].text.lower() for k in range(3000)}
    # Bare nouns, greetings and thanks are nobody's invention.
    own = {text.lower() for text, routed in EVERY if len(text.split()) > (3 if routed else 4)}
    assert not own & texts


def test_samples_expect_what_the_file_says_about_one_picture_each() -> None:
    samples = SpokenSamples(len(EVERY), tokens=ROUTING_TEXTS)
    for index in range(0, len(samples), 29):
        text, routed = EVERY[index]
        sample = samples[index]
        assert (sample.conversation[0].text, expected_routing(sample)) == (text, routed)
        assert len(sample.conversation[0].images) == 1


def test_a_few_of_them_are_of_all_kinds() -> None:
    few = SpokenSamples(24)
    tokens = {token for k in range(24) for token, _ in expected_routing(few[k])}
    assert tokens == {"[DET]", "[SEG]", "[GRD]"}
    assert any(not expected_routing(few[k]) for k in range(24))
