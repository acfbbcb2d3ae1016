"""Sentences in plain speech: well formed, spread over their kinds, and not drawn by training."""

from __future__ import annotations

import re

from superlink.workflows.data.instructions.answers import expected_routing
from superlink.workflows.data.instructions.tasks import TOKENS
from superlink.workflows.data.shapes_samples import TextSamples
from superlink.workflows.eval.wordings import SpokenSamples, wordings

IRREGULAR = {"man": "men"}
KNOWN = {token for tokens in TOKENS.values() for token in tokens}


def test_every_sentence_says_what_it_asks_for_in_words_of_its_own() -> None:
    assert len({text.lower() for text, _ in wordings()}) == len(wordings()) >= 750
    for text, routed in wordings():
        for token, phrase in routed:
            assert token in KNOWN
            assert phrase == " ".join(phrase.lower().split())
            said = re.findall(r"\w+", text.lower())
            # "person" for "people", "man" for "men"
            assert any(word.startswith((phrase[:2], IRREGULAR.get(phrase[:3], phrase))) for word in said), (
                text
            )


def test_no_sentence_is_among_the_first_texts_of_training() -> None:
    samples = TextSamples(3000)
    texts = {samples[k].conversation[0].text.lower() for k in range(3000)}
    # Single greetings and bare nouns are nobody's invention.
    assert not {text.lower() for text, _ in wordings() if len(text.split()) > 3} & texts


def test_samples_expect_what_the_file_says_about_one_picture_each() -> None:
    samples = SpokenSamples(len(wordings()))
    for index in range(0, len(samples), 29):
        text, routed = wordings()[index]
        sample = samples[index]
        assert (sample.conversation[0].text, expected_routing(sample)) == (text, routed)
        assert len(sample.conversation[0].images) == 1


def test_a_few_of_them_are_of_all_kinds() -> None:
    few = SpokenSamples(24)
    tokens = {token for k in range(24) for token, _ in expected_routing(few[k])}
    assert {"[DET]", "[SEG]", "[GRD]"} <= tokens
    assert any(not expected_routing(few[k]) for k in range(24))
