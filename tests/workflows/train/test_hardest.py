"""Stages that learn only the sentences that the router finds hardest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from superlink.router.encoding import encode
from superlink.router.errors import InputError, ModelError
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Lora, TrainConfig
from superlink.workflows.train.hardest import BY_CHANCE, hardest, nats
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.lora import add_adapters
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.module import JointBatch, JointModule
from tests.workflows.train.tiny_system import ToySamples, sample_of, toy_config
from tests.workflows.train.two_threads import collectives, in_threads


def choosing(share: float = 0.5, **changes: object) -> TrainConfig:
    config = toy_config(trainable=("router.*",), lesson="words", **changes)
    return replace(config, stages=(replace(config.stages[0], steps=8, hardest=share),))


def start(config: TrainConfig, folder: Path) -> TrainLoop:
    return TrainLoop(config, folder, collective=Alone(), device=torch.device("cpu"))


@pytest.fixture(scope="module")
def module() -> JointModule:
    return toy_config().system.build().eval()


def said(index: int, *rounds: str) -> Sample:
    """A conversation without a picture: what a user says and what is answered, in turn."""
    messages = [
        Message(role="assistant" if number % 2 else "user", text=text) for number, text in enumerate(rounds)
    ]
    return sample_of(messages, None, (), index)


SENTENCES = [
    said(number, *rounds)
    for number, rounds in enumerate(
        [
            ("hello", "hi there"),
            ("find red", "<det>red</det>[DET]"),
            ("find red and green and blue", "<det>red</det>[DET] <det>green</det>[DET] <det>blue</det>[DET]"),
            ("hello", "hi there", "find blue", "<det>blue</det>[POSE]"),
            ("find green", "hi there hi there hi there"),
            ("blue", "no"),
        ]
        * 3
    )
]


def test_nats_are_those_of_every_word_that_a_row_should_write(module: JointModule) -> None:
    for size in (1, 4, 99):
        found = nats(module, SENTENCES[:6], at_once=size)
        for sample, value in zip(SENTENCES[:6], found, strict=True):
            rows = encode([sample.conversation], module.tokenizer, module.router.config, training=True)
            assert rows.labels is not None
            with torch.no_grad():
                chances = module.router(rows).logits[0].log_softmax(-1)
            placeholders = set(module.router.config.token_ids.placeholders)
            expected = -sum(
                float(chances[place - 1, label])
                for place, label in enumerate(rows.labels[0].tolist())
                if label != -100 and label not in placeholders
            )
            assert value == pytest.approx(expected, rel=1e-4)


def test_the_hardest_sentences_are_learned_and_some_of_the_others(module: JointModule) -> None:
    surprise = dict(zip(map(id, SENTENCES), nats(module, SENTENCES, at_once=4), strict=True))
    torch.manual_seed(3)
    chosen = hardest(module, SENTENCES, 2 / 3, at_once=4)
    assert len({id(sample) for sample in chosen}) == len(chosen) == 12
    by_chance = int(12 * BY_CHANCE)
    assert by_chance == 2
    left = [surprise[id(one)] for one in SENTENCES if not any(one is other for other in chosen)]
    assert min(surprise[id(sample)] for sample in chosen[:-by_chance]) >= max(left)
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        drawn |= {id(one) for one in hardest(module, SENTENCES, 2 / 3, at_once=4)[-by_chance:]}
    assert len(drawn) == 8  # whatever is not among the hardest has its turn


def test_rows_with_pictures_to_see_or_to_make_are_all_learned(module: JointModule) -> None:
    shown = [ToySamples(("detect",))[number] for number in range(4)]
    made = [
        replace(one, image=None, conversation=(Message(role="user", text="blue"), one.conversation[-1]))
        for one in shown
    ]
    chosen = hardest(module, [*SENTENCES, *shown, *made], 1 / 3, at_once=4)
    assert len(chosen) == len(shown) + len(made) + 6
    assert all(any(one is other for other in chosen) for one in [*shown, *made])


def test_pictures_that_show_nothing_of_what_is_said_do_not_keep_a_row(module: JointModule) -> None:
    """They stand in front of the words as they do in a session, and the hardest of such rows are learned."""
    picture = np.full((8, 8, 3), 90, np.uint8)
    behind = [
        replace(
            one,
            conversation=(replace(one.conversation[0], images=(picture,)), *one.conversation[1:]),
            unseen=True,
        )
        for one in SENTENCES
    ]
    surprise = dict(zip(map(id, behind), nats(module, behind, at_once=4), strict=True))
    assert sorted(surprise.values()) != pytest.approx(sorted(nats(module, SENTENCES, at_once=4)))
    chosen = hardest(module, behind, 1 / 3, at_once=4)
    assert len(chosen) == 6
    left = [surprise[id(one)] for one in behind if not any(one is other for other in chosen)]
    assert min(surprise[id(one)] for one in chosen[:5]) >= max(left)
    assert len(hardest(module, [replace(one, unseen=False) for one in behind], 1 / 3, at_once=4)) == 18


@pytest.mark.parametrize("count", [1, 2, 3])
def test_something_is_always_learned(module: JointModule, count: int) -> None:
    assert len(hardest(module, SENTENCES[:count], 0.01, at_once=4)) == 1
    assert hardest(module, [], 0.5, at_once=4) == []


def test_what_is_dropped_by_chance_does_not_count_as_hard() -> None:
    loop_config = replace(choosing(), lora=Lora(r=4, dropout=0.5, targets=("q_proj", "v_proj")))
    module = loop_config.system.build()
    add_adapters(module, loop_config.lora or Lora())
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    module.train()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(nats(module, SENTENCES[:6], at_once=4))
    assert found[0] == found[1]
    assert module.router.training


def test_two_workers_choose_and_stay_alike(tmp_path: Path) -> None:
    loops = [
        TrainLoop(replace(choosing(), workers=2), tmp_path, collective=one, device=torch.device("cpu"))
        for one in collectives()
    ]
    assert in_threads([loop.run for loop in loops]) == [True, True]
    one, other = (loop.module.state_dict() for loop in loops)
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_run_that_chooses_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = choosing(checkpoint_every=3)
    whole = start(config, tmp_path / "whole")
    assert whole.run()
    first = start(config, tmp_path / "stopped")
    assert first.run(lambda: first.step == 4) is False
    again = start(config, tmp_path / "stopped")
    assert again.step == 5
    assert again.run()
    torch.testing.assert_close(again.module.state_dict(), whole.module.state_dict(), rtol=0, atol=0)
    plain = start(choosing(1.0), tmp_path / "plain")
    assert plain.run()
    assert any(
        not torch.equal(value, plain.module.state_dict()[name])
        for name, value in whole.module.state_dict().items()
    )


def test_another_share_is_another_run(tmp_path: Path) -> None:
    first = start(choosing(checkpoint_every=3), tmp_path)
    assert first.run(lambda: first.step == 4) is False
    with pytest.raises(ModelError, match="hardest"):
        start(choosing(0.25, checkpoint_every=3), tmp_path)


def test_half_of_the_rows_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[int] = []
    prepare = JointModule.prepare

    def counted(self: JointModule, samples: Sequence[Sample], **options: Any) -> JointBatch:
        learned.append(len(samples))
        return prepare(self, samples, **options)

    monkeypatch.setattr(JointModule, "prepare", counted)
    rows = {}
    for share in (1.0, 0.5):
        learned.clear()
        assert start(choosing(share, validation=()), tmp_path / str(share)).run()
        rows[share] = sum(learned)
    assert rows == {1.0: 64, 0.5: 32}
    assert "choose" in read_lines(tmp_path / "0.5" / "metrics.jsonl")[-1]["seconds_per_step"]


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"hardest must be above 0 and at most 1"):
        choosing(share)


def test_a_stage_without_sentences_has_none_to_choose_from() -> None:
    with pytest.raises(InputError, match="learns no sentences"):
        replace(toy_config().stages[0], lesson="patches", hardest=0.5)
