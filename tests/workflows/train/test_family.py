"""The recipe of the whole family: its size, its stages, and a run of all of them at their smallest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import superlink
from superlink.agents.model_folder import read_outline, save_model
from superlink.agents.system import System
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture
from superlink.decoders.grounding_dino import GroundingDinoConfig
from superlink.router.checkpoint import MAX_FILE_BYTES
from superlink.router.errors import InputError
from superlink.router.messages import Message
from superlink.router.model import Router
from superlink.workflows.data.instructions.answers import NO_ANSWER, NO_PICTURES, NO_WORDS
from superlink.workflows.data.samples import Sample
from superlink.workflows.data.scene_tasks import SCENE_TASKS, SPOKEN_TASKS
from superlink.workflows.data.shapes_samples import ShapesMix, ShapesSamples
from superlink.workflows.train import loop as training
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.command import app
from superlink.workflows.train.growing import GrownSystem
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.metrics import read_lines
from superlink.workflows.train.recipes import shapes_family, shapes_family_smoke
from superlink.workflows.train.recipes.decoders import family_decoders
from superlink.workflows.train.recipes.family import LAYERS
from superlink.workflows.train.recipes.sources import GLANCING_ALL, SEEING_ALL, SPEAKING_ALL, paintings
from tests.workflows.train.small_start import TINY, Saying, start_folder, start_model

FAMILY_BYTES = 60_000_000


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_folder(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def run(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of every stage."""
    folder = tmp_path_factory.mktemp("run")
    config = replace(shapes_family_smoke(start), workers=1, tensorboard=False, log_every=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SETTLED", 16)
        assert TrainLoop(config, folder, collective=Alone(), device=torch.device("cpu")).run()
    torch.set_num_threads(threads)
    return folder


def test_the_embedded_family_is_what_the_recipe_makes_and_fits_into_sixty_megabytes_of_small_files() -> None:
    files = [path.stat().st_size for path in TINY.rglob("*") if path.is_file()]
    assert sum(files) <= FAMILY_BYTES
    assert max(files) <= MAX_FILE_BYTES < 16_000_000
    router, _, saved = read_outline(TINY)
    assert router.llm["num_hidden_layers"] == LAYERS
    detector = saved[0]
    assert isinstance(detector, GroundingDinoConfig)
    made = family_decoders(detector)
    sizes: dict[str, int] = {}
    assert [one.name for one in saved] == [one.name for one in made]
    assert [one.routes for one in saved] == [one.routes for one in made]
    with torch.device("meta"):
        for one, fresh in zip(saved, made, strict=True):
            shapes = [
                {
                    name: tuple(tensor.shape)
                    for name, tensor in config.build(router.width).state_dict().items()
                }
                for config in (one, fresh)
            ]
            assert shapes[0] == shapes[1], one.name
            sizes[one.name] = sum(map(prod, shapes[0].values()))
    assert sizes["unipose"] == pytest.approx(2.65e6, rel=0.05)
    assert sizes["sam"] == pytest.approx(1.8e6, rel=0.05)
    assert list(sizes) == ["grounding_dino", "sam", "unipose", "stable_diffusion", "instruct_pix2pix"]


def test_no_source_refuses_what_another_one_teaches() -> None:
    for mix in (SEEING_ALL, GLANCING_ALL, SPEAKING_ALL):
        assert mix.unsaid == {NO_WORDS, NO_PICTURES}
    assert set(GLANCING_ALL.scene_tasks) == set(SCENE_TASKS)
    assert set(SPEAKING_ALL.scene_tasks) == SPOKEN_TASKS
    assert ShapesMix().unsaid == ShapesMix(elsewhere=()).unsaid == {NO_ANSWER}


def test_single_pictures_show_one_thing_and_the_others_are_as_before() -> None:
    single, several = paintings(single=True).open(), paintings().open()
    before = ShapesSamples(1 << 40, mix=ShapesMix.only("generate"))
    listings = [single[index].answer or "" for index in range(60)]
    assert all(listing.startswith(("a ", "an ")) and " and " not in listing for listing in listings)
    assert any(" and " in str(several[index].answer) for index in range(60))
    told = [several[index].conversation[-1].text for index in range(30)]
    assert told == [before[index].conversation[-1].text for index in range(30)]


def test_a_whole_family_goes_on_without_what_only_begins(start: Path, run: Path, tmp_path: Path) -> None:
    grown, further = shapes_family(start), shapes_family(run / "model")
    begins = {"patches", "keypoints-128", "latents", "one-thing"}
    assert [one.name for one in further.stages] == [
        one.name for one in grown.stages if one.name not in begins
    ]
    smoke = replace(shapes_family_smoke(run / "model"), workers=1, tensorboard=False, validation=())
    assert TrainLoop(smoke, tmp_path, collective=Alone(), device=torch.device("cpu")).run()
    before, after = superlink.load(run / "model"), superlink.load(tmp_path / "model")
    with before, after:
        assert [one.name for one in after.engine.decoders] == [one.name for one in before.engine.decoders]


def test_each_stage_teaches_what_it_is_for(start: Path, run: Path) -> None:
    lines = [line for line in read_lines(run / "metrics.jsonl") if line["kind"] == "train"]
    taught: dict[str, set[str]] = {}
    for line in lines:
        names = {name.partition("/")[0] for name in line["losses"]} - {"total", "link_words"}
        taught.setdefault(line["stage"], set()).update(names)
    painted = {"stable_diffusion.pictures", "instruct_pix2pix.pictures"}
    assert taught.pop("latents") <= painted
    assert taught == {
        "words": {"language"},
        "patches": {"patch_words"},
        "answers": {"language", "patch_words"},
        "masks": {"language", "sam"},
        "keypoints-128": {"language", "unipose"},
        "keypoints-224": {"language", "unipose"},
        "one-thing": {"language", "stable_diffusion"},
        "paintings": {"language", "stable_diffusion"},
        "edits": {"language", "instruct_pix2pix"},
        "together": taught["together"],
    }
    assert [line["step"] for line in lines] == list(range(1, 2 * len(shapes_family_smoke(start).stages) + 1))


def sample_of(task: str) -> Sample:
    """One whose every round has at most one picture, as people show them."""
    samples = ShapesSamples(200, seed=3, mix=ShapesMix.only(task))
    rounds = (samples[index] for index in range(200))
    return next(
        sample
        for sample in rounds
        if all(len(message.images) <= 1 for message in sample.conversation)
        and (sample.targets or task in ("vqa", "quiz", "caption", "region_caption", "recognition", "chat"))
    )


def asked(folder: Path, conversation: Sequence[Message]) -> Turn:
    """The last turn of a session in which the model writes the replies of a conversation."""
    questions, replies = conversation[::2], conversation[1::2]
    with superlink.load(folder) as loaded:
        session = System(Saying(loaded.engine, [reply.text for reply in replies])).session()
        for one in questions:
            turn = session.ask(one.text, image=one.images[0] if one.images else None, prompts=one.prompts)
    return turn


TASKS = ("detect", "ground", "segment", "mixed", "partial", "chat", "region", "dialogue", *SCENE_TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_what_was_trained_answers_every_kind_of_question(run: Path, task: str) -> None:
    sample = sample_of(task)
    turn = asked(run / "model", sample.conversation)
    assert turn.failures == ()
    assert turn.text
    assert [type(one) for one in turn.artifacts] == [type(one.artifact) for one in sample.targets]
    for one, target in zip(turn.artifacts, sample.targets, strict=True):
        if not isinstance(one, Picture):
            assert phrases(one) == phrases(target.artifact)


def phrases(artifact: Artifact) -> tuple[str, ...]:
    assert isinstance(artifact, Boxes | Masks | Keypoints)
    parts = artifact.keypoint_names if isinstance(artifact, Keypoints) else ()
    return (*artifact.names, *parts)


def test_the_family_grows_from_a_model_that_detects(tmp_path: Path, start: Path) -> None:
    model = start_model()
    blind = Router(replace(model.router.config, tokens=()))
    save_model(tmp_path, replace(model, router=blind, decoders=()))
    with pytest.raises(InputError, match=r"grows from a model with a Grounding DINO; .* has no decoder"):
        shapes_family(tmp_path)
    system = shapes_family(start).system
    assert isinstance(system, GrownSystem)
    assert system.folder == start.absolute()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            ["shapes-tiny", "--start", "tiny"],
            "'shapes-tiny' starts from nothing; --start is for shapes-family",
        ),
        (["shapes-family", "--start", "nowhere"], "unknown model 'nowhere'"),
    ],
)
def test_a_start_is_for_recipes_that_have_one(call: list[str], message: str) -> None:
    result = CliRunner().invoke(app, call)
    assert message in str(result.exception)
