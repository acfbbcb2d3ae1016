"""A model folder within a larger system: what it knew stays, and what does not fit is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from superlink.agents.local import LocalEngine
from superlink.agents.model_folder import Model, load_model
from superlink.agents.system import System
from superlink.decoders.artifacts import Boxes
from superlink.decoders.contract import Call, DecoderConfig
from superlink.decoders.diffusion.decoder import DiffusionDecoder
from superlink.decoders.unipose.config import pose_routes
from superlink.router.encoding import encode
from superlink.router.errors import InputError, ModelError
from superlink.router.generation import Request, generate
from superlink.router.links import LinkBatch, SuperLink
from superlink.router.messages import Message
from superlink.router.requests import GenerateOptions
from superlink.workflows.data.shapes import Scene
from superlink.workflows.data.shapes_samples import ShapesSamples
from superlink.workflows.train.beginning import begin_as
from superlink.workflows.train.growing import GrownSystem
from superlink.workflows.train.recipes.decoders import smoke_decoders
from superlink.workflows.train.recipes.family import AS_BACKBONE, AS_DETECTOR, eyes
from tests.workflows.train.small_start import detector, forced, start_folder

FOUND = "Here they are:<det> red circle</det>[DET],<det> star</det>[GRD]."
FAMILY = smoke_decoders(detector())


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_folder(tmp_path_factory.mktemp("start"))


def grown(start: Path, decoders: tuple[DecoderConfig, ...] = FAMILY, **changes: Any) -> GrownSystem:
    return GrownSystem(
        folder=start, decoders=decoders, **{"name": "family", "autoencoders": "one", **changes}
    )


def boxes(model: Model) -> list[Boxes]:
    options = GenerateOptions(forced=forced(FOUND))
    system = System(LocalEngine(model), name=model.name, options=options)
    with system:
        turns = system.ask(
            ["Find the red circles and the star."] * 2,
            image=[Scene.generate(seed).image() for seed in (1, 2)],
        )
    return [one for turn in turns for one in turn.artifacts if isinstance(one, Boxes)]


@pytest.mark.parametrize("layers", [2, 3, 5, 7])
def test_a_deeper_router_writes_bit_for_bit_what_it_wrote_before(
    start: Path, tmp_path: Path, layers: int
) -> None:
    router = load_model(start).router.eval()
    deeper = grown(start, layers=layers)
    deeper.export(deeper.build().eval(), tmp_path)
    model = load_model(tmp_path)
    assert len(model.router.language.model.layers) == layers == model.router.language.config.num_hidden_layers
    questions = [
        (Message(role="user", text="find the stars", images=(Scene.generate(1).image(),)),),
        (Message(role="user", text="hello"),),
    ]
    rows = encode(questions, model.tokenizer, router.config, training=False)
    with torch.no_grad():
        before, after = router(rows), model.router.eval()(rows)
    assert torch.equal(before.hidden, after.hidden)
    asked = [Request(conversation=question) for question in questions]
    written = [[one.raw for one in generate(r, model.tokenizer, asked)] for r in (router, model.router)]
    assert written[0] == written[1]


def test_new_layers_learn_although_they_add_nothing_at_first(start: Path) -> None:
    module = grown(start, layers=4).build()
    batch = module.prepare([ShapesSamples(9, targets=False)[k] for k in range(2)])
    module.total(module(batch, batch.counts), {}).backward()
    fresh = [layer for layer in module.router.language.model.layers if not layer.mlp.down_proj.weight.any()]
    assert len(fresh) == 2
    assert all(layer.mlp.down_proj.weight.grad.any() for layer in fresh)


def test_other_eyes_leave_words_links_and_layers_as_they_are(start: Path, tmp_path: Path) -> None:
    before = load_model(start)
    system = grown(start, vision=eyes(detector(), 64))
    module = system.build()
    system.export(module.eval(), tmp_path)
    after = load_model(tmp_path)
    assert after.router.config.sees_through_backbone
    for part in ("llm", "queries"):
        found = after.router.get_submodule(part).state_dict()
        for name, value in before.router.get_submodule(part).state_dict().items():
            assert torch.equal(found[name], value), name
    given = begin_as(module, AS_BACKBONE)
    assert {name for name in module.state_dict() if name.startswith("router.vision_tower.")} == given


def test_eyes_cannot_begin_as_a_backbone_of_another_kind() -> None:
    other = replace(detector(), backbone={**detector().backbone, "depths": [1, 1]})
    with pytest.raises(InputError, match=r"of type 'bit' with 3 stages or more; .* depths \[1, 1\]"):
        eyes(other, 64)


def test_layers_are_not_lost(start: Path) -> None:
    with pytest.raises(InputError, match="2 layers, which cannot become 1"):
        grown(start, layers=1).build()


def test_what_the_folder_could_find_is_found_as_before(start: Path, tmp_path: Path) -> None:
    system = grown(start)
    system.export(system.build().eval(), tmp_path)
    before, after = boxes(load_model(start)), boxes(load_model(tmp_path))
    assert len(before) == len(after) == 4
    for one, other in zip(before, after, strict=True):
        assert len(one)
        # The weights are the same bits; where they lie in memory may change how sums are rounded.
        np.testing.assert_allclose(one.xyxy, other.xyxy, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5, atol=1e-7)
        assert one.names == other.names


def test_every_weight_that_still_has_a_place_is_kept(start: Path) -> None:
    old, module = load_model(start), grown(start).build()
    state = module.router.state_dict()
    for name, tensor in old.router.state_dict().items():
        torch.testing.assert_close(state.pop(name), tensor, rtol=0, atol=0)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "queries.pose.weight": (4, 32),
        "queries.gen.weight": (64, 32),
        "queries.edit.weight": (64, 32),
    }
    finder, saved = module.decoder("grounding_dino").state_dict(), old.decoders[0].state_dict()
    assert finder.keys() < saved.keys()
    assert all("mask" in name for name in saved.keys() - finder.keys())
    assert all(torch.equal(tensor, saved[name]) for name, tensor in finder.items())
    owners = {token.text: token.decoder for token in module.router.config.tokens}
    assert owners["[SEG]"] == "sam"


def test_fresh_painters_share_one_autoencoder_that_has_yet_to_learn(start: Path) -> None:
    torch.manual_seed(0)
    module = grown(start).build()
    painter, editor = (module.decoder(name) for name in ("stable_diffusion", "instruct_pix2pix"))
    assert isinstance(painter, DiffusionDecoder)
    assert painter.vae is editor.vae
    assert float(painter.vae.quant_conv.bias[-1].detach()) == -6.0  # quiet: it was begun


def test_keypoints_begin_as_a_detector_that_finds_the_same(start: Path) -> None:
    """The box layer that both have, on the same picture and the same links."""
    module = grown(start).build().eval()
    begin_as(module, AS_DETECTOR)
    finder, poser = module.decoder("grounding_dino"), module.decoder("unipose")
    token, (route,) = finder.config.routes[0].token, pose_routes()
    embeddings = torch.randn(4, 32, generator=torch.Generator().manual_seed(3))
    objects = SuperLink(token=token, embeddings=embeddings, phrase="person", position=0)
    nose = SuperLink(token=route.token, embeddings=-embeddings, phrase="nose", position=5)
    call = Call(id="a", links=(objects,), image=Scene.generate(5).image())
    asked = replace(call, links=(objects, nose))
    with torch.no_grad():
        seen = finder(LinkBatch.of([call.links]), finder.prepare([call]))
        posed = poser(LinkBatch.of([asked.links]), poser.prepare([asked]))
    first = posed.poses.layers[0]
    torch.testing.assert_close(first.logits, seen.layers.logits[0], rtol=1e-5, atol=1e-5)
    # Their inverse sigmoids are cut off at 1e-3 and at 1e-5.
    torch.testing.assert_close(first.boxes, seen.layers.boxes[0], rtol=0, atol=2e-3)


def renamed(config: DecoderConfig, **changes: Any) -> tuple[DecoderConfig, ...]:
    return tuple(replace(one, **changes) if one is config else one for one in FAMILY)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("decoders", "kind", "message"),
    [
        (FAMILY[1:], InputError, "has decoders that the larger system lacks: grounding_dino"),
        (FAMILY[:1] + FAMILY[2:], ModelError, r"the router writes \[SEG\], which nothing in the larger"),
        (renamed(FAMILY[0], d_model=64), ModelError, r"the saved decoder 'grounding_dino' does not fit"),
        (FAMILY[:3], InputError, "autoencoders that learn need painters"),
    ],
)
def test_what_does_not_go_together_is_told_before_the_run(
    start: Path, decoders: tuple[DecoderConfig, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        grown(start, decoders).build()


def test_a_table_of_another_length_is_refused(start: Path) -> None:
    decoders = smoke_decoders(detector())
    routes = tuple(replace(one, token=replace(one.token, num_links=2)) for one in decoders[0].routes)
    short = (replace(decoders[0], routes=routes), *smoke_with(2)[1:])  # type: ignore[type-var]
    with pytest.raises(ModelError, match=r"table of queries 'det' has 4 entries, the larger system needs 2"):
        grown(start, short).build()


def smoke_with(num_links: int) -> tuple[DecoderConfig, ...]:
    finder = detector()
    routes = tuple(replace(one, token=replace(one.token, num_links=num_links)) for one in finder.routes)
    return smoke_decoders(replace(finder, routes=routes))


def test_painters_that_have_learned_do_not_begin_again(start: Path, tmp_path: Path) -> None:
    system = grown(start)
    system.export(system.build().eval(), tmp_path)
    with pytest.raises(InputError, match="'family' has stable_diffusion, instruct_pix2pix already"):
        grown(tmp_path).build()
    again = grown(tmp_path, autoencoders="built").build()
    assert set(again.decoders) == {config.name for config in FAMILY}
