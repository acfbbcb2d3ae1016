"""A stage in which painters' autoencoders learn, and what the stages after it see of that."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from superlink.agents.model_folder import load_model
from superlink.decoders.artifacts import Picture
from superlink.decoders.diffusion.config import edit_routes, generation_routes
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.diffusion.inputs import to_tensor
from superlink.router.errors import InputError
from superlink.router.messages import Message
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.train.collective import Alone, Collective
from superlink.workflows.train.config import Average, Source, Stage, TrainConfig
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.systems import FreshSystem, begin_autoencoders
from tests.decoders.diffusion.painters import SIDE, VAE, picture, small, small_editor
from tests.workflows.train.tiny_system import (
    DET,
    ToyConfig,
    ToySamples,
    router_config,
    tokenizer,
    toy_config,
)
from tests.workflows.train.two_threads import collectives, in_threads

NAMES = ("stable_diffusion", "instruct_pix2pix")
VAES = tuple(f"decoders.{name}.vae.*" for name in NAMES)


class PaintSamples:
    """Pictures to make and to change, in turn."""

    def __init__(self, length: int = 1 << 30) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        edits = bool(index % 2)
        token = "[EDIT]" if edits else "[GEN]"
        image = picture(SIDE, SIDE, seed=index + 1) if edits else None
        said = (
            Message(role="user", text="red", images=() if image is None else (image,)),
            Message(role="assistant", text=f"<det>red</det>{token}"),
        )
        answer = Picture(pixels=picture(SIDE, SIDE, seed=index))
        return Sample(
            conversation=said,
            image=image,
            targets=(Target(token=token, artifact=answer),),
            task="toy",
            source=f"toy:{index}",
        )


def painters(**changes: Any) -> FreshSystem:
    vae = {**VAE, "scaling_factor": 1.0}
    painter = small(routes=generation_routes(2), vae=vae, train_unet=True)
    editor = small_editor(routes=edit_routes(2), vae=vae)
    tokens = tuple(config.routes[0].token for config in (painter, editor))
    router = replace(router_config(), tokens=tokens)
    decoders = (painter, editor)
    return FreshSystem(name="toy", router=router, decoders=decoders, tokenizer=tokenizer(), **changes)


def pictures_stage(**changes: Any) -> Stage:
    source = Source(name="paint", open=PaintSamples)
    fields: dict[str, Any] = {
        "mixture": (source,),
        "steps": 3,
        "lr": 3e-3,
        "lesson": "pictures",
        "trainable": VAES,
    }
    return Stage(name="pictures", **{**fields, **changes})


def run_of(*stages: Stage, **changes: Any) -> TrainConfig:
    """Pictures for three steps, then everything for two, unless `stages` are given."""
    joint = replace(pictures_stage(), name="joint", lesson="all", steps=2, trainable=("*",))
    fields = {"system": painters(), "global_batch": 4, "checkpoint_every": 1, "keep": 100, **changes}
    return replace(toy_config(), stages=stages or (pictures_stage(), joint), **fields)


def loop_of(config: TrainConfig, folder: Path, collective: Collective | None = None) -> TrainLoop:
    return TrainLoop(config, folder, collective=collective or Alone(), device=torch.device("cpu"))


def copied(loop: TrainLoop) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in loop.module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Parts of the module, as "decoders.stable_diffusion.vae"."""
    names = {name for name, value in after.items() if not torch.equal(value, before[name])}
    return {".".join(name.split(".")[: 3 if name.startswith("decoders") else 1]) for name in names}


def losses(folder: Path) -> list[dict[str, float]]:
    return [line["losses"] for line in read_lines(folder / "metrics.jsonl")]


def test_only_autoencoders_learn_and_the_router_does_not_even_run(tmp_path: Path) -> None:
    source = Source(name="few", open=partial(PaintSamples, 4))
    stage = pictures_stage(mixture=(source,), steps=30, lr=1e-2, trainable=("*",))
    loop = loop_of(run_of(stage), tmp_path)
    before, runs = copied(loop), []
    loop.module.router.register_forward_pre_hook(lambda module, inputs: runs.append(module))
    assert loop.run()
    assert changed(before, copied(loop)) == {f"decoders.{name}.vae" for name in NAMES}
    assert not runs
    lines = losses(tmp_path)
    assert set(lines[0]) == {"total", *(f"{name}.pictures" for name in NAMES)}
    for name in NAMES:
        assert lines[-1][f"{name}.pictures"] < 0.7 * lines[0][f"{name}.pictures"]


def test_later_stages_teach_the_networks_and_leave_autoencoders_as_they_are(tmp_path: Path) -> None:
    before: dict[str, Tensor] = {}

    def remember(module: Any, step: int) -> dict[str, float]:
        if step == 3:
            before.update({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return {}

    config = replace(run_of(), eval_every=1)
    loop = TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu"), evaluation=remember)
    assert loop.run()
    parts = changed(before, copied(loop))
    assert {f"decoders.{name}.unet" for name in NAMES} <= parts
    assert not parts & {f"decoders.{name}.vae" for name in NAMES}
    assert all(one.grad is None for name, one in loop.module.named_parameters() if ".vae." in name)


def test_without_such_a_stage_autoencoders_stay_as_they_began(tmp_path: Path) -> None:
    joint = pictures_stage(lesson="all", trainable=("*",))
    loop = loop_of(run_of(joint), tmp_path)
    before = copied(loop)
    assert loop.run()
    assert not changed(before, copied(loop)) & {f"decoders.{name}.vae" for name in NAMES}


@pytest.mark.parametrize(
    ("shared", "stops"), [(False, [2]), (False, [3, 4]), (True, [3])], ids=["within", "at its end", "shared"]
)
def test_a_stopped_run_ends_with_the_weights_of_an_unbroken_one(
    tmp_path: Path, stops: list[int], shared: bool
) -> None:
    trainable = VAES[:1] if shared else VAES
    config = run_of()
    first = replace(config.stages[0], trainable=trainable)
    config = replace(
        config, system=painters(autoencoders="one" if shared else "own"), stages=(first, *config.stages[1:])
    )
    unbroken = loop_of(config, tmp_path / "unbroken")
    assert unbroken.run()
    for step in stops:
        loop = loop_of(config, tmp_path / "stopped")
        assert loop.run(lambda loop=loop, step=step: loop.step == step - 1) is False
    loop = loop_of(config, tmp_path / "stopped")
    assert loop.step == stops[-1]
    assert loop.run()
    torch.testing.assert_close(copied(loop), copied(unbroken), rtol=0, atol=0)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "unbroken")


def latent_spread(decoder: DiffusionDecoder) -> float:
    """Root mean square of latents of pictures that no stage showed, about the centre of their channel."""
    shown = torch.cat([to_tensor(picture(SIDE, SIDE, seed=10_000 + row)) for row in range(256)])
    with torch.no_grad():
        latents = decoder.vae.encode(shown).latent_dist.sample(torch.Generator().manual_seed(0))
    centred = latents - latents.mean((0, 2, 3), keepdim=True)
    return float(centred.square().mean().sqrt()) * decoder.vae.config.scaling_factor


@pytest.mark.parametrize("shared", [False, True], ids=["each its own", "one"])
def test_the_model_folder_holds_latents_of_the_right_scale(tmp_path: Path, shared: bool) -> None:
    stage = pictures_stage(steps=8, trainable=VAES[:1] if shared else VAES)
    loop = loop_of(run_of(stage, system=painters(autoencoders="one" if shared else "own")), tmp_path)
    assert loop.run()
    decoders = [one for one in load_model(tmp_path / "model").decoders if isinstance(one, DiffusionDecoder)]
    assert [decoder.config.name for decoder in decoders] == list(NAMES)
    for decoder in decoders:
        assert latent_spread(decoder) == pytest.approx(1.0, rel=0.05)
        own = loop.module.decoder(decoder.config.name)
        torch.testing.assert_close(decoder.state_dict(), own.state_dict(), rtol=0, atol=0)
    same = decoders[0].vae.state_dict(), decoders[1].vae.state_dict()
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0]) is shared


def test_an_autoencoder_that_is_not_trainable_keeps_its_scale(tmp_path: Path) -> None:
    loop = loop_of(run_of(pictures_stage(steps=1, trainable=VAES[:1])), tmp_path)
    before = copied(loop)
    assert loop.run()
    assert changed(before, copied(loop)) == {"decoders.stable_diffusion.vae"}


def test_two_workers_teach_autoencoders_like_one(tmp_path: Path) -> None:
    config = run_of(pictures_stage())
    assert loop_of(config, tmp_path / "one").run()
    loops = [loop_of(replace(config, workers=2), tmp_path / "two", each) for each in collectives()]
    assert in_threads([loop.run for loop in loops]) == [True, True]
    for one, two in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-4)
    torch.testing.assert_close(copied(loops[0]), copied(loops[1]), rtol=0, atol=0)


def test_averages_start_anew_where_the_latents_changed(tmp_path: Path) -> None:
    config = run_of(pictures_stage(), average=Average(globs=VAES, decay=0.999))
    loop = loop_of(config, tmp_path)
    assert loop.run()
    for name in NAMES:
        decoder = loop.module.decoder(name)
        assert isinstance(decoder, DiffusionDecoder)
        assert latent_spread(decoder) == pytest.approx(1.0, rel=0.05)


def test_a_lesson_without_a_learner_or_without_pictures_is_refused(tmp_path: Path) -> None:
    toy = toy_config(lesson="pictures")
    with pytest.raises(InputError, match="no decoder of this system has pictures_loss"):
        loop_of(toy, tmp_path / "toy").run()
    chat = Source(name="chat", open=partial(ToySamples, ("chat",)))
    with pytest.raises(InputError, match="no picture for an autoencoder"):
        loop_of(run_of(pictures_stage(mixture=(chat,))), tmp_path / "chat").run()


def test_one_autoencoder_is_for_painters_with_the_same_options() -> None:
    system = painters(autoencoders="one")
    names = [name for name, _ in system.build().named_parameters() if ".vae." in name]
    assert names
    assert all(name.startswith("decoders.stable_diffusion.vae.") for name in names)
    other = replace(system.decoders[1], vae={**VAE, "scaling_factor": 0.5})
    with pytest.raises(InputError, match="all with the same `vae`; decoders are stable_diffusion, instruct"):
        replace(system, decoders=(system.decoders[0], other)).build()
    with pytest.raises(InputError, match="need painters; decoders are counter"):
        begin_autoencoders([ToyConfig(name="counter", token=DET).build(8)], shared=False)


def test_autoencoders_that_begin_anew_change_nothing_else() -> None:
    torch.manual_seed(0)
    built = painters().build().state_dict()
    torch.manual_seed(0)
    begun = painters(autoencoders="own").build().state_dict()
    assert changed(built, begun) == {f"decoders.{name}.vae" for name in NAMES}
