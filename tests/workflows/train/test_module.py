from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from superlink.decoders.testing import check_decoder
from superlink.router.errors import DataError, InputError
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.module import JointModule
from tests.workflows.train.tiny_system import DET, ToyConfig, ToyDecoder, ToySamples, sample_of, toy_config


@pytest.fixture
def module() -> JointModule:
    torch.manual_seed(0)
    return toy_config().system.build()


def samples(*tasks: str, count: int = 8) -> list[Sample]:
    data = ToySamples(tasks)
    return [data[index] for index in range(count)]


def plain_counts(batch_counts: dict[str, float]) -> dict[str, float]:
    return {name: max(count, 1.0) for name, count in batch_counts.items()}


def test_the_toy_decoders_keep_the_contract() -> None:
    check_decoder(ToyConfig(name="counter", token=DET))


def test_the_language_loss_is_the_mean_over_all_label_tokens(module: JointModule) -> None:
    batch = module.prepare(samples("chat", "detect"))
    terms = module(batch, plain_counts(dict(batch.counts)))
    output = module.router(batch.rows)
    assert batch.rows.labels is not None
    expected = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), batch.rows.labels[:, 1:].flatten())
    torch.testing.assert_close(terms["language"], expected)
    assert batch.counts["language"] == float((batch.rows.labels != -100).sum())


def test_a_sample_that_the_router_cannot_take_is_named(module: JointModule) -> None:
    long = (Message(role="user", text="go"), Message(role="assistant", text="so " * 500))
    rows = [*samples("chat"), sample_of(long, None, (), index=77)]
    with pytest.raises(
        InputError, match=r"^toy:77: the last round needs \d+ positions, the router takes 128"
    ):
        module.prepare(rows)


def test_a_decoder_that_nothing_asks_for_is_not_run_and_gets_no_gradient(module: JointModule) -> None:
    batch = module.prepare(samples("detect", "chat"))
    terms = module(batch, plain_counts(dict(batch.counts)))
    module.total(terms, {}).backward()
    assert set(terms) == {"language", "link_words", "counter/box", "counter/square"}
    counter, painter = module.decoders["counter"], module.decoders["painter"]
    assert isinstance(counter, ToyDecoder)
    assert isinstance(painter, ToyDecoder)
    assert (counter.runs, painter.runs) == (1, 0)
    assert all(p.grad is None for p in painter.parameters())
    assert module.router.queries["pose"].weight.grad is None


def test_decoder_losses_reach_the_router_through_the_links(module: JointModule) -> None:
    batch = module.prepare(samples("detect"))
    terms = module(batch, plain_counts(dict(batch.counts)))
    module.total(terms, {"language": 0.0}).backward()
    gradient = module.router.queries["det"].weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0
    assert float(module.router.vision_tower.embeddings.patch_embedding.weight.grad.abs().sum()) > 0


def test_each_link_goes_to_the_call_of_its_own_sample(module: JointModule) -> None:
    """One batch of mixed tasks gives what the samples give one by one."""
    mixed = samples("both", "chat", "pose", "detect")
    batch = module.prepare(mixed)
    counts = plain_counts(dict(batch.counts))
    together = module(batch, counts)
    alone: dict[str, float] = {}
    for sample in mixed:
        for name, value in module(module.prepare([sample]), counts).items():
            alone[name] = alone.get(name, 0.0) + float(value.detach())
    assert {name: float(value.detach()) for name, value in together.items()} == pytest.approx(alone, rel=1e-5)


def test_the_total_weighs_terms_with_the_decoders_and_the_runs_weights(module: JointModule) -> None:
    terms = {
        "language": torch.tensor(2.0),
        "counter/box": torch.tensor(3.0),
        "painter/box": torch.tensor(1.0),
    }
    total = module.total(terms, {"language": 0.5, "counter": 2.0})
    assert float(total) == pytest.approx(0.5 * 2 + 2 * 5 * 3 + 5 * 1)


def test_without_decoding_only_words_are_learned(module: JointModule) -> None:
    batch = module.prepare(samples("both"), lesson="words")
    assert not batch.work
    assert set(module(batch, plain_counts(dict(batch.counts)))) == {"language", "link_words"}


def test_a_target_that_does_not_fit_is_an_error_with_its_source(module: JointModule) -> None:
    sample = samples("detect", count=1)[0]
    broken = Sample(
        conversation=sample.conversation,
        image=np.zeros((8, 8, 3), np.uint8),
        targets=(),
        task="toy",
        source="broken:1",
    )
    with pytest.raises(DataError, match="broken:1"):
        module.prepare([sample, broken])


def test_rows_of_like_length_share_a_forward_pass(tmp_path: Path) -> None:
    """Chat is short, finds with two links for each class are long; they come in turns."""
    loop = TrainLoop(
        toy_config(tasks=("chat", "both"), micro_batch=4),
        tmp_path,
        collective=Alone(),
        device=torch.device("cpu"),
    )
    found: list[list[int]] = []
    loop.module.router.register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].attention_mask.sum(1).tolist())
    )
    assert loop.run()
    for short, long in zip(found[::2], found[1::2], strict=True):
        assert max(short) <= min(long)
