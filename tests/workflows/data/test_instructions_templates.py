"""Template files: enough of them, well formed, and held out for good."""

from __future__ import annotations

import re
from itertools import islice
from random import Random

import pytest

from superlink.router.errors import DataError
from superlink.workflows.data.instructions.answers import UNCLEAR
from superlink.workflows.data.instructions.grammar import SLOT, Template, draw, parse, templates, tidy
from superlink.workflows.data.instructions.phrases import Phrase, listed
from superlink.workflows.data.instructions.synonyms import spells_held_out, synonyms, varied
from superlink.workflows.data.instructions.tasks import fill
from superlink.workflows.data.instructions.vocabulary import Vocabulary
from superlink.workflows.data.instructions.words import COLORS, SHAPES, article, plural
from superlink.workflows.data.scene_tasks.poses import KEYPOINTS

TASKS = ("detect", "ground", "segment", "mixed", "negation", "chat", "region", "dialogue")
FORMS = ("all", "many", "the", "a", "it", "name", "each", "bare", "hued", "whole")
MOST = 3000  # expansions looked at for one template


def core(text: str) -> str:
    """A wording without case, punctuation and forms of slots: what makes it a wording."""
    slots = re.sub(r"\{(\w):\w+!?\}", r"\1slot", text)
    return " ".join(re.findall(r"\w+", slots.lower()))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_sixty_templates_and_holds_about_a_fifth_out(task: str) -> None:
    found = templates(task)
    assert len({template.source for template in found}) == len(found) >= 60
    held_out = sum(template.held_out for template in found)
    assert 0.13 <= held_out / len(found) <= 0.25


@pytest.mark.parametrize("task", TASKS)
def test_no_wording_of_a_held_out_template_is_a_wording_for_training(task: str) -> None:
    def wordings(held_out: bool) -> set[str]:
        chosen = [template for template in templates(task) if template.held_out == held_out]
        return {core(text) for template in chosen for text in islice(template.body.expansions(), MOST)}

    assert not wordings(True) & wordings(False)


@pytest.mark.parametrize("task", [*TASKS, "wrappers", "contexts"])
def test_every_template_renders_without_leftovers(task: str) -> None:
    rng = Random(1)
    source = Vocabulary()
    for template in templates(task):
        for _ in range(5):
            skeleton = template.body.sample(rng).replace("{}", "do it")
            skeleton = re.sub(r"\{[ok]:\w+\}", "this", skeleton)
            filled = fill(rng, skeleton, source, False)
            assert filled is not None
            text = tidy(filled[0])
            assert text
            assert not re.search(r"[{}<>|~()\[\]]|  ", text), (template.source, text)


@pytest.mark.parametrize("task", TASKS)
def test_slots_are_of_known_groups_and_forms(task: str) -> None:
    for template in templates(task):
        for text in islice(template.body.expansions(), 20):
            for group, form, _ in SLOT.findall(text):
                assert group in "dsbgrxok", template.source
                assert form in (*FORMS, "ref", "them", "ones", "onesingle", "this", "these"), template.source


def test_the_answer_to_unclear_wishes_is_a_section_of_chat() -> None:
    assert UNCLEAR in {template.section for template in templates("chat")}


def test_chat_templates_never_ask_for_anything() -> None:
    groups = {slot[0] for template in templates("chat") for slot in SLOT.findall(template.source)}
    assert groups <= {"x"}


def test_a_draw_takes_only_templates_of_its_split() -> None:
    rng = Random(3)
    assert all(not draw(rng, "detect", "train").held_out for _ in range(300))
    assert all(draw(rng, "detect", "heldout").held_out for _ in range(300))


def test_training_draws_everyday_templates_more_often_than_their_share_of_the_lines() -> None:
    rng = Random(4)
    for name in ("detect", "segment", "chat"):
        found = [one for one in templates(name) if not one.held_out]
        share = sum(one.everyday for one in found) / len(found)
        drawn = sum(draw(rng, name, "train").everyday for _ in range(2000)) / 2000
        assert share < 0.32 < 0.5 < drawn < 0.6


def test_what_is_held_out_is_drawn_by_its_weight_alone() -> None:
    assert not any(one.everyday for name in TASKS for one in templates(name) if one.held_out)


def test_alternatives_and_nesting_expand_to_every_text() -> None:
    assert set(parse("(a|b (c|d)|) x").expansions()) == {"a x", "b c x", "b d x", " x"}


@pytest.mark.parametrize("source", ["(a|b", "a|b)", "((a)", "<nosuchmacro> x"])
def test_a_malformed_template_is_an_error_that_names_it(source: str) -> None:
    with pytest.raises(DataError, match="template"):
        parse(source)


def test_templates_with_more_expansions_weigh_more_up_to_a_limit() -> None:
    def weight(source: str) -> float:
        return Template(file="", section="", source=source, held_out=False, body=parse(source)).weight

    assert weight("x") == 1.0
    assert weight("(a|b)") == 2.0
    assert weight("<find> x") == 6.0


@pytest.mark.parametrize(
    ("singular", "many"),
    [
        ("circle", "circles"),
        ("cross", "crosses"),
        ("person", "people"),
        ("plus sign", "plus signs"),
        ("traffic light", "traffic lights"),
        ("cherry", "cherries"),
        ("toy", "toys"),
        ("knife", "knives"),
        ("box", "boxes"),
        ("wine glass", "wine glasses"),
    ],
)
def test_plurals(singular: str, many: str) -> None:
    assert plural(singular) == many


@pytest.mark.parametrize(
    ("words", "expected"), [("star", "a"), ("orange star", "an"), ("umbrella", "an"), ("unicorn", "a")]
)
def test_articles(words: str, expected: str) -> None:
    assert article(words) == expected


def test_phrases_that_share_a_noun_may_name_it_once() -> None:
    phrases = [Phrase(noun="circle", before=("red",)), Phrase(noun="circle", before=("blue",))]
    said = {listed(Random(seed), phrases, "many") for seed in range(60)}
    assert "red and blue circles" in said
    assert "red circles and blue circles" in said


def test_other_words_stand_in_training_sentences_and_leave_slots_alone() -> None:
    rng = Random(3)
    skeletons = [tidy(draw(rng, "detect", "train").body.sample(rng)) for _ in range(400)]
    changed = [varied(rng, skeleton, "detect") for skeleton in skeletons]
    assert 0.2 < sum(a != b for a, b in zip(skeletons, changed, strict=True)) / 400 < 0.5
    for before, after in zip(skeletons, changed, strict=True):
        assert SLOT.findall(before) == SLOT.findall(after)


@pytest.mark.parametrize("task", TASKS)
def test_a_wording_of_a_held_out_template_is_known_as_one(task: str) -> None:
    for template in templates(task):
        for text in islice(template.body.expansions(), 3):
            if template.held_out:
                assert spells_held_out(tidy(text), task), text
                assert spells_held_out(tidy(text).upper().replace(",", " "), task), text


def test_other_words_never_spell_a_held_out_wording(monkeypatch: pytest.MonkeyPatch) -> None:
    (held_out, *_) = (one for one in templates("detect") if one.held_out and one.body.count() == 1)
    words = held_out.source.split(" ")
    at = next(k for k, word in enumerate(words) if word.isalpha())
    written = " ".join(["qqq" if k == at else word for k, word in enumerate(words)])
    monkeypatch.setattr(
        "superlink.workflows.data.instructions.synonyms.synonyms", lambda name: {("qqq",): (words[at],)}
    )
    assert {varied(Random(seed), written, "detect") for seed in range(40)} == {written}
    assert {varied(Random(seed), f"{written} now", "detect") for seed in range(40)} > {f"{written} now"}


JOINTS = {
    part.split()[-1] for part in KEYPOINTS
}  # "keep an eye out" is fine where no keypoints are asked for


@pytest.mark.parametrize(("name", "parts"), [("detect", set()), ("pose", JOINTS)])
def test_synonyms_name_nothing_that_can_be_found_and_no_slot(name: str, parts: set[str]) -> None:
    found = {*SHAPES, *COLORS, *parts} - {"figure"}
    for key, others in synonyms(name).items():
        for text in (" ".join(key), *others):
            assert re.fullmatch(r"[A-Za-z' ,-]+", text), text
            assert not found & set(text.lower().split()), text


def test_everything_of_a_colour_is_asked_for_by_colours_that_differ() -> None:
    rng, source = Random(2), Vocabulary()
    for _ in range(50):
        filled = fill(rng, "outline everything {s:hued} and everything {s:hued}", source, False)
        assert filled is not None
        one, two = (request.phrase.name for request in filled[1])
        assert one != two
        assert filled[0] == f"outline everything {one[:-6]} and everything {two[:-6]}"
