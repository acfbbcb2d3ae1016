"""Rounds of different tasks about one scene: what they refer to is what a count over the scene says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from random import Random

import numpy as np
import pytest

from superlink.decoders.artifacts import Boxes, Keypoints, Masks, Picture
from superlink.router.prompts import prompt_mask
from superlink.workflows.data.instructions.answers import NO_PICTURES, NO_WORDS, routing_of
from superlink.workflows.data.instructions.grammar import Split, Template, draw
from superlink.workflows.data.instructions.words import COLORS, GENERIC, SHAPES, SIZES, plural
from superlink.workflows.data.scene_tasks import World, talk
from superlink.workflows.data.scene_tasks.answers import COUNTED, objects_named
from superlink.workflows.data.scene_tasks.rounds import FOLLOW_UPS, follow_up, told
from superlink.workflows.data.scene_tasks.talk import Round
from superlink.workflows.data.shapes import Scene, SceneObject
from superlink.workflows.data.shapes.layout import LARGE, SMALL
from superlink.workflows.train.plan import plan_calls, routing_tokens
from tests.agents.tiny_family import configs
from tests.workflows.data.streams import SMALL as SCENES

TALKS = 320
_NOUN = re.compile(rf"\b({'|'.join(sorted((*SHAPES, *GENERIC), key=len, reverse=True))})\b")
_EXTREMES: dict[str, Callable[[SceneObject], float]] = {
    "left": lambda item: -item.center[0],
    "right": lambda item: item.center[0],
    "top": lambda item: -item.center[1],
    "bottom": lambda item: item.center[1],
    "largest": lambda item: item.figure.size,
    "smallest": lambda item: -item.figure.size,
}
_SYNONYMS = {
    "left": r"left",
    "right": r"right",
    "top": r"top(?!-|\w* left)|upper|highest|\bup\b",
    "bottom": r"bottom|lower|lowest|\bdown\b",
    "largest": r"largest|biggest|massive",
    "smallest": r"smallest|tiniest|littlest",
}


@cache
def talks() -> tuple[list[Round], ...]:
    found = [told(Random(f"talk {seed}"), "train", world(seed)) for seed in range(TALKS)]
    return tuple(rounds for rounds in found if rounds is not None)


def world(seed: int) -> World:
    return World(seed=seed, config=SCENES)


def later(*kinds: str) -> list[tuple[list[Round], Round]]:
    """Every round of some kinds, with the rounds before it."""
    return [
        (rounds[:at], rounds[at])
        for rounds in talks()
        for at in range(1, len(rounds))
        if rounds[at].kind in kinds
    ]


def sized(scene: Scene, item: SceneObject, size: str) -> bool:
    share = item.figure.size / (scene.height * scene.width) ** 0.5
    return share <= SMALL[0] if size == "small" else share >= LARGE[1]


def meant(
    scene: Scene, phrase: str, rounds: Sequence[Round] = (), *, is_one: bool = False
) -> list[SceneObject]:
    """What a phrase means, from its words and a look at every object."""
    if phrase.startswith("region"):
        prompts = [prompt for one in rounds for prompt in one.prompts]
        area = prompt_mask(prompts[int(phrase.removeprefix("region")) - 1], scene.size)
        return [max(scene.objects, key=lambda item: np.count_nonzero(item.mask & area))]
    match = _NOUN.search(phrase)
    assert match is not None, phrase
    items = [item for item in scene.objects if SHAPES.get(match[1], item.shape) == item.shape]
    words = phrase[: match.start()].split()
    for word in [word for word in words if word in COLORS]:
        items = [item for item in items if item.color == COLORS[word]]
    for word in [word for word in words if word in SIZES]:
        items = [item for item in items if sized(scene, item, SIZES[word])]
    rest = " ".join(word for word in words if word not in COLORS and word not in SIZES)
    after = phrase[match.end() :].strip()
    if after and rest:  # "largest circle on the left": a half, then one of it
        items = [item for item in items if in_half(scene, item, after)]
    where = rest or after
    return items if not where else placed(scene, items, where, is_half=not (rest or is_one))


def in_half(scene: Scene, item: SceneObject, where: str) -> bool:
    x, y = item.center[0] / scene.width, item.center[1] / scene.height
    sides = {"left": x < 0.5, "right": x > 0.5, "top|upper": y < 0.5, "bottom|lower": y > 0.5}
    return all(fits for words, fits in sides.items() if re.search(words, where))


def placed(scene: Scene, items: list[SceneObject], where: str, *, is_half: bool) -> list[SceneObject]:
    inside = [item for item in items if in_half(scene, item, where)]
    sides = re.findall(r"left|right|top|upper|bottom|lower", where)
    if len(sides) == 2 or re.search("middle|cent", where):
        goal = [0.5, 0.5]
        for side in sides:
            goal[0 if side in ("left", "right") else 1] = 0.0 if side in ("left", "top", "upper") else 1.0

        def distance(item: SceneObject) -> float:
            x, y = item.center
            return float(np.hypot(x / scene.width - goal[0], y / scene.height - goal[1]))

        return [min(items, key=distance)]
    if is_half:
        return inside
    (extreme,) = [name for name, words in _SYNONYMS.items() if re.search(words, where)]
    return [max(items, key=_EXTREMES[extreme])]


def boxes(items: Sequence[SceneObject]) -> list[tuple[float, ...]]:
    return sorted(tuple(map(float, item.box)) for item in items)


def the_one(rounds: Sequence[Round], one: Round) -> SceneObject:
    """What the next round may call "it", by the name in answers; an edit has changed the scene."""
    assert one.talk.focus is not None
    (item,) = meant(
        one.talk.scene, one.talk.focus.phrase.name, [*rounds, one], is_one=one.talk.focus.phrase.is_one
    )
    return item


def test_every_box_mask_and_keypoint_is_of_what_its_phrase_means_in_the_scene() -> None:
    checked: Counter[str] = Counter()
    for rounds in talks():
        for at, one in enumerate(rounds):
            for target in one.targets:
                if not isinstance(target.artifact, Boxes | Masks | Keypoints):
                    continue
                for label, name in enumerate(target.artifact.names):
                    focus = one.talk.focus
                    is_one = focus is not None and focus.phrase.name == name and focus.phrase.is_one
                    found = target.artifact.xyxy[target.artifact.labels == label].tolist()
                    expected = boxes(meant(one.seen, name, rounds[: at + 1], is_one=is_one))
                    assert sorted(map(tuple, found)) == expected, (one.text, one.reply)
                    checked[target.token] += 1
    assert set(checked) == {"[DET]", "[SEG]", "[GRD]", "[POSE]"}
    assert checked.total() > 300


def test_one_of_them_is_the_most_extreme_of_the_class_that_was_found() -> None:
    found = later("find one", "segment one")
    assert len(found) > 15
    for before, one in found:
        known = before[-1].talk.focus
        ((_, name),) = routing_of(one.reply)
        assert known is not None
        assert name.endswith(known.phrase.name)
        word = name.removesuffix(known.phrase.name).strip()
        assert word in one.text.lower()
        among = list(known.items)
        assert len(among) > 1
        (extreme,) = [key for key, words in _SYNONYMS.items() if re.search(words, word)]
        assert boxes([max(among, key=_EXTREMES[extreme])]) == boxes([the_one(before, one)])


def test_them_and_it_are_what_the_round_before_was_about() -> None:
    found = later("find them", "segment them")
    assert len(found) > 20
    for before, one in found:
        known = before[-1].talk.focus
        assert known is not None
        ((token, name),) = routing_of(one.reply)
        assert name == known.phrase.name
        spoken = " ".join(f"{past.text} {past.reply}" for past in before).lower()
        noun = known.phrase.noun
        assert noun in GENERIC or noun in spoken or plural(noun) in spoken or known.is_region
        assert known.phrase.color in spoken
        assert (token == "[GRD]") == (one.kind == "find them" and known.phrase.is_one and not known.is_region)


def test_every_number_is_a_count_over_the_scene() -> None:
    kinds = ("count", "count some", "count colour", "count left", "count now")
    seen: Counter[str] = Counter()
    for before, one in later(*kinds):
        focus = one.talk.focus
        assert focus is not None
        name = focus.phrase.name
        items = meant(one.seen, name)
        assert one.reply == f"I count {COUNTED[len(items)]}.", (name, one.text)
        seen[one.kind] += 1
        if one.kind == "count":
            assert before[-1].talk.focus is not None
            assert name == before[-1].talk.focus.phrase.name
        if one.kind == "count some":
            known = before[-1].talk.focus
            assert known is not None
            assert {id(item) for item in items} <= {id(item) for item in known.items}
            value = focus.said.removeprefix("the ones ").removeprefix("the ").removesuffix(" ones")
            assert value in one.text.lower()
            assert value in name
    assert set(seen) == set(kinds)
    for before, one in later("count named"):
        assert before[-1].kind in ("caption", "find named", "chat")
        assert one.reply == f"I count {COUNTED[objects_named(before[0].reply).total()]}."


def test_after_some_were_counted_them_is_not_said_alone() -> None:
    """ "How many are large? Outline them" could mean either."""
    for before, one in later(*FOLLOW_UPS):
        known = before[-1].talk.focus
        if (
            known is not None
            and known.said
            and one.kind in ("find them", "segment them", "find one", "segment one")
        ):
            assert known.said in one.text.lower()


def test_that_colour_is_the_last_one_that_was_spoken_of() -> None:
    colors = re.compile(rf"\b({'|'.join(COLORS)})\b")
    found = later("like colour", "count colour")
    assert len(found) > 20
    for before, one in found:
        (name,) = {*re.findall(colors, one.talk.focus.phrase.name if one.talk.focus else "")}
        spoken = [word for past in before for word in colors.findall(f"{past.text} {past.reply}".lower())]
        assert COLORS[spoken[-1]] == name


def test_colours_kinds_and_places_are_those_of_the_object() -> None:
    checked: Counter[str] = Counter()
    for before, one in later("color", "what", "mark", "place"):
        item = the_one(before, one)
        x, y = item.center[0] / one.seen.width, item.center[1] / one.seen.height
        words = one.reply.rstrip(".").split()
        if one.kind == "place":
            for side, fits in (("left", x < 0.5), ("right", x > 0.5), ("top", y < 0.5), ("bottom", y > 0.5)):
                assert side not in words or fits
        elif one.kind == "color":
            assert words[-1] == item.color
        else:
            assert words[-2:] == [item.color, item.shape]
        checked[one.kind] += 1
    assert min(checked[kind] for kind in ("color", "what", "mark", "place")) > 5


def test_everything_like_it_has_its_colour_and_shape() -> None:
    found = later("like")
    assert len(found) > 8
    for before, one in found:
        item = the_one(before[:-1], before[-1])
        assert item in meant(one.seen, routing_of(one.reply)[0][1])


def test_an_edit_changes_the_one_and_the_next_round_is_about_the_changed_picture() -> None:
    followed = 0
    for rounds in talks():
        for at, one in enumerate(rounds):
            if one.kind not in ("recolor", "remove"):
                continue
            ((_, name),) = routing_of(one.reply)
            color = name.split()[-1]
            thing = re.sub(r"^(make|remove) the ", "", name)
            if one.kind == "recolor":
                thing = thing.removesuffix(color).strip()
            (item,) = meant(one.seen, thing, is_one=True)
            (target,) = one.targets
            assert isinstance(target.artifact, Picture)
            changed = (target.artifact.pixels != one.seen.image()).any(axis=2)
            x0, y0, x1, y1 = (int(side) for side in item.box)
            assert changed[y0:y1, x0:x1].any()
            if one.kind == "recolor":
                assert one.talk.scene.objects[item.index].color == COLORS[color]
                assert len(one.talk.scene.objects) == len(one.seen.objects)
            else:
                assert len(one.talk.scene.objects) == len(one.seen.objects) - 1
            if at + 1 < len(rounds):
                assert rounds[at + 1].seen is one.talk.scene
                followed += 1
    assert followed > 20


def test_every_kind_of_follow_up_occurs_and_rounds_turn_to_other_tasks() -> None:
    kinds = Counter(one.kind for rounds in talks() for one in rounds[1:])
    assert set(kinds) == set(FOLLOW_UPS)
    assert {len(rounds) for rounds in talks()} == {2, 3, 4}
    assert all(rounds[-1].kind != "chat" for rounds in talks())
    does = [[FOLLOW_UPS[one.kind].does for one in rounds[1:]] for rounds in talks()]
    assert np.mean([len(set(one)) == len(one) for one in does]) > 0.95
    replies = {one.reply for rounds in talks() for one in rounds}
    assert not replies & {NO_WORDS, NO_PICTURES}


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_held_out_wordings_are_never_drawn_for_training(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Template] = []

    def spy(rng: Random, name: str, wanted: Split, section: str | None = None) -> Template:
        drawn.append(draw(rng, name, wanted, section))
        return drawn[-1]

    monkeypatch.setattr(talk, "draw", spy)
    for seed in range(25):
        told(Random(seed), split, world(seed))
    assert len(drawn) > 25
    assert all(template.held_out == (split == "heldout") for template in drawn)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_sample_can_be_planned_for_all_decoders(split: Split) -> None:
    systems = {config.name: config for config in configs()}
    tokens = routing_tokens(list(systems.values()))
    planned: Counter[str] = Counter()
    for seed in range(60):
        sample = follow_up(Random(f"plan {seed}"), split, world(seed))
        assert sample is not None
        assert (sample.answer is None) == bool(sample.targets)
        for call in plan_calls(sample, systems, tokens):
            planned[call.decoder] += 1
    assert {"grounding_dino", "sam", "instruct_pix2pix", "unipose"} <= set(planned)


def test_the_same_seed_gives_the_same_rounds() -> None:
    for seed in range(12):
        first, second = (follow_up(Random(seed), "train", world(seed)) for _ in range(2))
        assert first is not None
        assert second is not None
        assert first.task == second.task
        assert [one.text for one in first.conversation] == [one.text for one in second.conversation]
        pictures = zip(first.conversation, second.conversation, strict=True)
        for one, other in pictures:
            assert len(one.images) == len(other.images)
            assert all(np.array_equal(a, b) for a, b in zip(one.images, other.images, strict=True))
