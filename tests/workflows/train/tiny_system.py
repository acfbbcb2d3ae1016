"""A real router at its smallest, and two toy decoders that obey the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from superlink.decoders.artifacts import Artifact, Boxes, Origin
from superlink.decoders.contract import Call, Decoder, DecoderConfig, Route
from superlink.router.config import RouterConfig, TokenIds
from superlink.router.links import LinkBatch
from superlink.router.messages import Message
from superlink.router.tokenizer import RouterTokenizer
from superlink.router.tokens import SPECIAL_TOKENS, RoutingToken
from superlink.workflows.data.samples import Sample, Target
from superlink.workflows.train.config import Source, Stage, TrainConfig
from superlink.workflows.train.systems import FreshSystem

DET = RoutingToken(text="[DET]", decoder="counter", table="det", num_links=2)
POSE = RoutingToken(text="[POSE]", decoder="painter", table="pose", num_links=2)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220)}


@dataclass(frozen=True, kw_only=True)
class ToyConfig(DecoderConfig):
    """Guesses one box for each link from the mean colour of the picture and the link."""

    name: str
    token: RoutingToken
    gather: bool = True
    needs_image: bool = True
    routes: tuple[Route, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "routes", (Route(token=self.token, returns=Boxes),))

    def build(self, link_dim: int) -> ToyDecoder:
        return ToyDecoder(self, link_dim)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "token": asdict(self.token)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToyConfig:
        return cls(name=data["name"], token=RoutingToken(**data["token"]))


@dataclass
class ToyInputs:
    calls: tuple[Call, ...]
    colours: Tensor  # (B, 3)
    boxes: list[Tensor]  # (N, 4) each
    labels: list[Tensor]


class ToyDecoder(Decoder[ToyInputs, Tensor]):
    def __init__(self, config: ToyConfig, link_dim: int) -> None:
        super().__init__()
        self.config = config
        self.link_dim = link_dim
        self.runs = 0
        self.see = nn.Linear(3, 8)
        self.listen = nn.Linear(link_dim, 8)
        self.box = nn.Linear(8, 4)
        self.unused = nn.Linear(4, 4)

    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> ToyInputs:
        boxes, labels = [], []
        for target in targets or ():
            assert isinstance(target, Boxes)
            boxes.append(torch.from_numpy(target.xyxy / max(target.size)))
            labels.append(torch.from_numpy(target.labels))
        pictures = self.config.pictures(calls)
        colours = [torch.from_numpy(picture.mean((0, 1)) / 255).float() for picture in pictures]
        return ToyInputs(tuple(calls), torch.stack(colours), boxes, labels)

    def forward(self, links: LinkBatch, inputs: ToyInputs) -> Tensor:
        self.runs += 1
        heard = self.listen(self.embeddings_of(links).mean(2))
        return self.box((heard + self.see(inputs.colours)[:, None]).tanh())

    def count(self, inputs: ToyInputs) -> float:
        return float(sum(len(boxes) for boxes in inputs.boxes))

    def loss(self, outputs: Tensor, inputs: ToyInputs, *, count: float) -> dict[str, Tensor]:
        terms = [
            (row[labels] - boxes).abs().sum()
            for row, boxes, labels in zip(outputs, inputs.boxes, inputs.labels, strict=True)
        ]
        total = torch.stack(terms).sum() / count
        return {"box": total, "square": total**2 * 0}

    @property
    def weights(self) -> Mapping[str, float]:
        return {"box": 5.0, "square": 1.0}

    @torch.no_grad()
    def postprocess(self, outputs: Tensor, inputs: ToyInputs) -> list[Artifact]:
        pictures = self.config.pictures(inputs.calls)
        whole = zip(inputs.calls, pictures, outputs.numpy(), strict=True)
        return [self._boxes(call, picture.shape[:2], row) for call, picture, row in whole]

    def _boxes(self, call: Call, size: tuple[int, int], row: np.ndarray) -> Boxes:
        """A box for each link, all equally sure."""
        height, width = size
        corners = (row[: len(call.links)] * max(size)).clip(0, [width, height, width, height])
        corners = np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        return Boxes(
            xyxy=corners.astype(np.float32),
            scores=np.ones(len(corners), np.float32),
            labels=np.arange(len(corners)),
            names=call.names,
            size=size,
            origin=Origin(source=call.image_id, decoder=self.config.name),
        )


class ToySamples:
    """Pictures of one colour, in turn with a detection, a pose, both, or only words."""

    def __init__(self, tasks: Sequence[str] = ("detect", "pose", "both", "chat"), length: int = 37) -> None:
        self.tasks, self.length = tuple(tasks), length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        task = self.tasks[index % len(self.tasks)]
        names = [str(n) for n in rng.permutation(list(COLOURS))[: rng.integers(1, 4)]]
        picture = np.full((8, 8, 3), COLOURS[names[0]], np.uint8)
        if task == "chat":
            return sample_of([Message(role="user", text="hello"), _says("hi there")], None, (), index)
        tokens = {"detect": ["[DET]"], "pose": ["[POSE]"], "both": ["[DET]", "[POSE]"]}[task]
        words = [f"<det>{name}</det>{token}" for token in tokens for name in names]
        targets = tuple(Target(token=token, artifact=_boxes(names, rng)) for token in tokens)
        user = Message(role="user", text="find " + " and ".join(names), images=(picture,))
        return sample_of([user, _says(" ".join(words))], picture, targets, index)


def sample_of(messages: Sequence[Message], image: Any, targets: tuple[Target, ...], index: int = 0) -> Sample:
    return Sample(
        conversation=tuple(messages), image=image, targets=targets, task="toy", source=f"toy:{index}"
    )


def _says(text: str) -> Message:
    return Message(role="assistant", text=text)


def _boxes(names: Sequence[str], rng: np.random.Generator) -> Boxes:
    count = int(rng.integers(0, 4))
    corners = np.sort(rng.uniform(0, 8, (count, 2, 2)), axis=1).reshape(count, 4)
    return Boxes(
        xyxy=corners.astype(np.float32),
        scores=np.ones(count, np.float32),
        labels=rng.integers(0, len(names), count),
        names=tuple(names),
        size=(8, 8),
    )


@cache
def tokenizer() -> RouterTokenizer:
    return RouterTokenizer.train(["find red and green and blue, hello, hi there"] * 3, 320)


def router_config() -> RouterConfig:
    words = tokenizer()
    return RouterConfig(
        vision={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 8,
        },
        llm={
            "vocab_size": words.size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128,
        },
        tokens=(DET, POSE),
        token_ids=TokenIds(
            pad=words.id_of(SPECIAL_TOKENS[0]), bos=words.id_of("<s>"), eos=words.id_of("</s>"),
            special={text: words.id_of(text) for text in SPECIAL_TOKENS},
        ),
        region_encoder=False,
        tiling="square",
        freeze_vision=False,
    )  # fmt: skip


def toy_config(**changes: Any) -> TrainConfig:
    """Six steps of eight samples."""
    stage_changes = {k: changes.pop(k) for k in ("trainable", "lesson", "warmup") if k in changes}
    tasks = changes.pop("tasks", ("detect", "pose", "both", "chat"))
    defaults: dict[str, Any] = {
        "name": "toy",
        "system": FreshSystem(
            name="toy",
            router=router_config(),
            decoders=(ToyConfig(name="counter", token=DET), ToyConfig(name="painter", token=POSE)),
            tokenizer=tokenizer(),
        ),
        "stages": (
            Stage(
                name="joint", steps=6, lr=1e-3,
                mixture=(Source(name="toy", open=partial(ToySamples, tasks)),), **stage_changes,
            ),
        ),
        "global_batch": 8,
        "log_every": 1, "eval_every": 0, "checkpoint_every": 0, "tensorboard": False,
    }  # fmt: skip
    return TrainConfig(**{**defaults, **changes})
