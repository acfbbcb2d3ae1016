"""A step in which one of two workers has keypoints alone and the other words alone, with real decoders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from superlink.decoders.grounding_dino.config import perception_routes
from superlink.decoders.unipose.config import pose_routes
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample
from superlink.workflows.train.collective import Alone, Collective
from superlink.workflows.train.config import Source, Stage, TrainConfig
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.systems import FreshSystem
from tests.decoders.grounding_dino.detectors import small as small_detector
from tests.decoders.unipose.poses import small as small_unipose
from tests.workflows.train.test_pose_step import sample as pose_sample
from tests.workflows.train.tiny_system import ToySamples, router_config, sample_of, tokenizer
from tests.workflows.train.two_threads import collectives, in_threads

WORDS = sample_of(
    [Message(role="user", text="red and green"), Message(role="assistant", text="blue, red and find")],
    None,
    (),
)


def config(workers: int) -> TrainConfig:
    detector = small_detector(routes=perception_routes(2))
    poser = small_unipose(routes=pose_routes(2))
    tokens = {
        token.text: token
        for decoder in (detector, poser)
        for route in decoder.routes
        for token in (*route.takes, route.token)
    }
    system = FreshSystem(
        name="two",
        router=replace(router_config(), tokens=tuple(tokens.values())),
        decoders=(detector, poser),
        tokenizer=tokenizer(),
    )
    stage = Stage(name="joint", steps=1, lr=1e-3, mixture=(Source(name="toy", open=partial(ToySamples)),))
    return TrainConfig(
        name="two",
        system=system,
        stages=(stage,),
        global_batch=2,
        workers=workers,
        tensorboard=False,
        clip=float("inf"),  # beside those of a raw backbone the words' gradients would be clipped to nothing
    )


class Watched:
    """A loop of one worker, the decoders that it ran, and the gradients that its optimiser got."""

    def __init__(self, folder: Path, collective: Collective) -> None:
        self.loop = TrainLoop(
            config(collective.world), folder, collective=collective, device=torch.device("cpu")
        )
        self.runs: Counter[str] = Counter()
        self.gradients: dict[str, Tensor] = {}
        for name in self.loop.module.decoders:
            decoder = self.loop.module.decoder(name)
            for part in decoder.modules():  # no part of an idle decoder, by whatever door
                part.register_forward_pre_hook(lambda module, inputs, name=name: self.runs.update([name]))
        self.loop.optimizer.register_step_pre_hook(lambda *ignored: self._keep())

    def _keep(self) -> None:
        named = self.loop.module.named_parameters()
        self.gradients = {name: one.grad.clone() for name, one in named if one.grad is not None}

    def step(self, samples: Sequence[Sample]) -> Watched:
        self.loop.trainable = list(self.loop.module.parameters())
        self.loop.train_step(self.loop.config.stages[0], 0, list(samples), lambda: False)
        return self


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Watched, Watched, Watched]:
    """One process with both samples; of two workers the one with keypoints, and the one with words."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    alone = Watched(folder, Alone()).step([pose_sample(), WORDS])
    first, second = (Watched(folder, one) for one in collectives())
    in_threads([partial(first.step, [pose_sample()]), partial(second.step, [WORDS])])
    return alone, first, second


def test_no_idle_decoder_is_executed(ran: tuple[Watched, Watched, Watched]) -> None:
    alone, keypoints, words = ran
    assert set(alone.runs) == set(keypoints.runs) == {"unipose"}
    assert not words.runs


def test_both_workers_get_the_gradients_of_one_process(ran: tuple[Watched, Watched, Watched]) -> None:
    alone, *workers = ran
    for worker in workers:
        assert set(worker.gradients) == set(alone.gradients)
        for name, gradient in alone.gradients.items():
            torch.testing.assert_close(
                worker.gradients[name], gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max()), msg=name
            )


def test_gradients_reach_the_pose_decoder_and_the_words_and_not_the_detector(
    ran: tuple[Watched, Watched, Watched],
) -> None:
    for one in ran:
        parts = {".".join(name.split(".")[:2]) for name in one.gradients}
        assert {"decoders.unipose", "router.llm", "router.queries"} <= parts
        assert "decoders.grounding_dino" not in parts
        for name in ("router.queries.det.weight", "router.queries.pose.weight", "router.llm.lm_head.weight"):
            assert one.gradients[name].norm() > 1e-3, name


def test_after_the_step_all_have_the_same_weights(ran: tuple[Watched, Watched, Watched]) -> None:
    _, first, second = (dict(one.loop.module.named_parameters()) for one in ran)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("thawed", ["none", "router", "decoder"])
def test_a_decoder_that_its_loss_would_teach_nothing_is_not_executed(tmp_path: Path, thawed: str) -> None:
    watched = Watched(tmp_path, Alone())
    learns = {"none": "decoders.grounding_dino.", "router": "router.llm.", "decoder": "decoders.unipose."}
    for name, parameter in watched.loop.module.named_parameters():
        parameter.requires_grad_(name.startswith(learns[thawed]))
    logged: list[set[str]] = []
    watched.loop._log.add = lambda losses, *ignored, active, **more: logged.append({*losses, *active})  # type: ignore[method-assign]
    watched.step([pose_sample()])
    assert set(watched.runs) == (set() if thawed == "none" else {"unipose"})
    assert any(name.startswith("unipose") for name in logged[0]) == (thawed != "none")
