from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from superlink.decoders.artifacts import Boxes
from superlink.decoders.sam.inputs import distinct_pictures
from superlink.router.errors import DataError
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.train.plan import plan_calls, routing_tokens
from tests.workflows.train.tiny_system import DET, POSE, ToyConfig

CONFIGS = {"counter": ToyConfig(name="counter", token=DET), "painter": ToyConfig(name="painter", token=POSE)}
TOKENS = routing_tokens(list(CONFIGS.values()))


def boxes(*names: str) -> Boxes:
    return Boxes(
        xyxy=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int64),
        names=names,
        size=(8, 8),
    )


def sample(text: str, *targets: Target, before: tuple[Message, ...] = ()) -> Sample:
    conversation = (*before, Message(role="user", text="go"), Message(role="assistant", text=text))
    return Sample(
        conversation=conversation,
        image=np.zeros((8, 8, 3), np.uint8),
        targets=targets,
        task="toy",
        source="some/file.json#17",
    )


def test_a_gathering_decoder_gets_the_links_of_each_token_as_one_call() -> None:
    text = "<det>cat</det>[DET], <det>man</det>[POSE] and <det>dog</det>[DET]."
    planned = plan_calls(
        sample(
            text,
            Target(token="[POSE]", artifact=boxes("man")),
            Target(token="[DET]", artifact=boxes("cat", "dog")),
        ),
        CONFIGS,
        TOKENS,
    )
    assert [(p.decoder, p.links, p.call.names) for p in planned] == [
        ("counter", (0, 2), ("cat", "dog")),
        ("painter", (1,), ("man",)),
    ]


def test_a_decoder_that_does_not_gather_gets_a_call_for_each_link() -> None:
    configs = {**CONFIGS, "counter": replace(CONFIGS["counter"], gather=False)}
    targets = [Target(token="[DET]", artifact=boxes(name)) for name in ("cat", "dog")]
    planned = plan_calls(sample("<det>cat</det>[DET]<det>dog</det>[DET]", *targets), configs, TOKENS)
    assert [(p.links, p.target.names) for p in planned] == [((0,), ("cat",)), ((1,), ("dog",))]


def test_pictures_of_two_files_that_spell_their_source_alike_stay_two() -> None:
    """Every split of a data set may be called _annotations.coco.json and count its pictures from 0."""
    text, target = "<det>cat</det>[DET] <det>man</det>[POSE]", boxes("cat")
    targets = (Target(token="[DET]", artifact=target), Target(token="[POSE]", artifact=boxes("man")))
    calls = [one.call for _ in range(2) for one in plan_calls(sample(text, *targets), CONFIGS, TOKENS)]
    first, places = distinct_pictures(calls)
    assert (first, places) == ([0, 2], (0, 0, 1, 1))
    assert calls[0].seed == calls[2].seed  # noise goes by the source, as before


def test_tokens_of_earlier_messages_make_no_calls() -> None:
    before = (
        Message(role="user", text="first"),
        Message(role="assistant", text="<det>cat</det>[DET]"),
    )
    assert plan_calls(sample("no more", before=before), CONFIGS, TOKENS) == []


@pytest.mark.parametrize(
    ("text", "targets", "message"),
    [
        (
            "<det>a</det>[DET] <det>b</det>[DET]",
            [Target(token="[DET]", artifact=boxes("a"))],
            r"writes 2 \[DET\] but its target names 1",
        ),
        ("<det>a</det>[DET]", [], r"writes \[DET\] but has no target"),
        ("nothing", [Target(token="[DET]", artifact=boxes("a"))], r"nothing asks for \[DET\]"),
        (
            "<det>a</det>[DET]",
            [Target(token="[DET]", artifact=boxes("a"))] * 2,
            r"2 targets.*1 decoder calls",
        ),
    ],
)
def test_targets_that_do_not_match_the_answer_are_an_error_with_the_source(
    text: str, targets: list[Target], message: str
) -> None:
    with pytest.raises(DataError, match=f"some/file.json#17.*{message}"):
        plan_calls(sample(text, *targets), CONFIGS, TOKENS)


def test_a_sample_must_end_with_what_is_to_be_learned() -> None:
    open_ended = replace(sample("x"), conversation=(Message(role="user", text="go"),))
    with pytest.raises(DataError, match="must end with an assistant message"):
        plan_calls(open_ended, CONFIGS, TOKENS)


def test_noise_differs_from_step_to_step_but_not_from_run_to_run() -> None:
    one = sample("<det>a</det>[DET]", Target(token="[DET]", artifact=boxes("a")))
    seeds = [plan_calls(one, CONFIGS, TOKENS, salt=salt)[0].call.seed for salt in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]
