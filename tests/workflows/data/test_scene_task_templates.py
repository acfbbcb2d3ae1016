"""Template files of the tasks about scenes: enough of them, held out for good, and apart from each other."""

from __future__ import annotations

import re
from functools import cache
from itertools import islice
from random import Random

import pytest

from superlink.router.examples import SHOWN
from superlink.workflows.data.instructions.grammar import SLOT, draw, templates, tidy
from superlink.workflows.data.instructions.surface import is_question
from tests.workflows.data.test_instructions_templates import MOST, core

FILES = {
    "vqa": "qtuvz",
    "caption": "",
    "grounded": "",
    "about_region": "k",
    "pose": "pj",
    "generate": "w",
    "edit": "tvwz",
    "compose": "dswe",
    "in_context": "kn",
    "follow_up": "ovqzj",
}
OLDER = ("detect", "ground", "segment", "mixed", "negation", "dialogue")


@cache
def cores(name: str, held_out: bool | None = None) -> frozenset[str]:
    chosen = [one for one in templates(name) if held_out in (None, one.held_out)]
    texts = (text for one in chosen for text in islice(one.body.expansions(), MOST))
    return frozenset(re.sub(r"\b[^\We]slot\b", "slot", core(text)) for text in texts)


@pytest.mark.parametrize("name", FILES)
def test_every_task_has_sixty_templates_and_holds_about_a_fifth_out(name: str) -> None:
    found = [template for template in templates(name) if template.section != "example"]
    assert len({(template.section, template.source) for template in found}) == len(found) >= 60
    assert 0.13 <= sum(template.held_out for template in found) / len(found) <= 0.3


@pytest.mark.parametrize("name", FILES)
def test_every_section_has_templates_of_both_splits(name: str) -> None:
    rng = Random(0)
    for section in {template.section for template in templates(name)}:
        assert draw(rng, name, "heldout", section).held_out
        assert not draw(rng, name, "train", section).held_out


@pytest.mark.parametrize("name", FILES)
def test_no_wording_of_a_held_out_template_is_a_wording_for_training(name: str) -> None:
    by_section: dict[str, set[str]] = {}
    for template in templates(name):
        if not template.held_out:
            texts = {core(text) for text in islice(template.body.expansions(), MOST)}
            by_section.setdefault(template.section, set()).update(texts)
    for template in templates(name):
        if template.held_out:
            texts = {core(text) for text in islice(template.body.expansions(), MOST)}
            assert not texts & by_section[template.section], template.source


@pytest.mark.parametrize("name", FILES)
def test_slots_are_those_of_the_file_and_nothing_is_left_over(name: str) -> None:
    rng = Random(1)
    for template in templates(name):
        for text in islice(template.body.expansions(), 40):
            assert {slot[0] for slot in SLOT.findall(text)} <= set(FILES[name]), template.source
        said = tidy(SLOT.sub("this", template.body.sample(rng)))
        assert said
        assert not re.search(r"[{}<>|~()\[\]]|  ", said), (template.source, said)


@pytest.mark.parametrize("name", [name for name in FILES if name != "about_region"])
@pytest.mark.parametrize("older", OLDER)
def test_no_wording_asks_for_boxes_or_masks_in_an_older_task(name: str, older: str) -> None:
    """Only that of a change ({e:do}) is a whole order; examples come with a slot that nothing else has."""
    if name == "in_context":
        assert all("{k:same}" in one.source or one.section == "example" for one in templates(name))
        return
    assert not cores(name) & cores(older)


def test_an_example_is_shown_in_words_that_were_learned() -> None:
    learned = {
        f"{tidy(text).capitalize()}."
        for template in templates("in_context")
        if template.section == "example" and not template.held_out
        for text in template.body.expansions()
    }
    assert SHOWN in learned


def test_questions_for_yes_or_no_about_presence_say_so() -> None:
    words = re.compile(
        r"yes|true|false|right|correct|wrong|not|nay|nod|deny|disagree|fact|part of|fair|agree|claim", re.I
    )
    for template in templates("vqa"):
        if template.section == "exist":
            assert words.search(template.source), template.source
    assert is_question("is there a star, yes or no")
