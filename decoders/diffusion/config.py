"""Configuration of the diffusion decoders; defaults are the published system's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from superlink.decoders.artifacts import Picture
from superlink.decoders.contract import DecoderConfig, Route
from superlink.decoders.plain import from_plain, to_plain
from superlink.router.errors import ModelError
from superlink.router.tokens import LinkKind, RoutingToken

if TYPE_CHECKING:
    from typing_extensions import Self

    from superlink.decoders.diffusion.decoder import DiffusionDecoder

_TOKENIZER = "tokenizer"  # folder within that of a saved decoder


def generation_routes(num_links: int = 64) -> tuple[Route, ...]:
    """[GEN]: a picture of what the link says."""
    token = RoutingToken(text="[GEN]", decoder="stable_diffusion", table="gen", num_links=num_links)
    return (Route(token=token, returns=Picture),)


def edit_routes(num_links: int = 64) -> tuple[Route, ...]:
    """[EDIT]: the picture of the call, changed as the link says."""
    token = RoutingToken(text="[EDIT]", decoder="instruct_pix2pix", table="edit", num_links=num_links)
    return (Route(token=token, returns=Picture),)


def clip_text_encoder() -> dict[str, Any]:
    """CLIP ViT-L/14's text side, as in Stable Diffusion 1.x."""
    return {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "projection_dim": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
    }


def clip_empty_caption(length: int = 77) -> tuple[int, ...]:
    """Token ids of "" in CLIP's vocabulary: start, then end up to the last place."""
    return (49406, *(49407,) * (length - 1))


def unet_options(in_channels: int = 4) -> dict[str, Any]:
    """The U-Net of Stable Diffusion 1.x; 8 input channels for InstructPix2Pix."""
    return {
        "sample_size": 64,
        "in_channels": in_channels,
        "out_channels": 4,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    }


def vae_options() -> dict[str, Any]:
    """The autoencoder of Stable Diffusion 1.x: a latent cell for 8 x 8 pixels."""
    return {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    }


def _noise_schedule(name: str, **options: Any) -> dict[str, Any]:
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return {"_class_name": name, "num_train_timesteps": 1000, **schedule, **options}


def pndm_scheduler() -> dict[str, Any]:
    """The scheduler of Stable Diffusion 1.x."""
    return _noise_schedule("PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)


def euler_ancestral_scheduler() -> dict[str, Any]:
    """The scheduler of InstructPix2Pix."""
    return _noise_schedule("EulerAncestralDiscreteScheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms."""

    noise: float = 1.0  # what the U-Net predicts against what was added
    caption: float = 0.1  # conditioning against the text encoder's; 0, or no text encoder: no such term
    # The same error again, averaged over the cells where an edit differs from its source: of all cells they
    # are few, and what changes there is what is asked for. 0: no such term.
    change: float = 0.0
    kl: float = 1e-4  # of latents, beside the pictures' squared error, while the autoencoder learns


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(DecoderConfig):
    """What both decoders share: sizes, conditioning, losses and serving defaults.

    `unet`, `vae` and `text_encoder` are the options of diffusers' UNet2DConditionModel and
    AutoencoderKL and of transformers' CLIPTextConfig; `scheduler` is a scheduler's, with its class
    under `_class_name`, as in diffusers' own files. Lists stand where JSON has lists.
    """

    sources: ClassVar[int]  # pictures that the U-Net sees beside the noisy one

    name: str
    routes: tuple[Route, ...]
    gather: bool = False
    needs_image: bool

    unet: Mapping[str, Any]
    vae: Mapping[str, Any] = field(default_factory=vae_options)
    scheduler: Mapping[str, Any]
    # Gives the target of the conditioning while training, and what "no caption" looks like. None: no
    # caption term, and "no caption" is learned.
    text_encoder: Mapping[str, Any] | None = field(default_factory=clip_text_encoder)
    empty_caption: tuple[int, ...] = field(default_factory=clip_empty_caption)  # token ids of ""
    # Folder of CLIP's tokenizer: for caption terms and links of kind "text". Saved models have a copy of it.
    tokenizer: str | None = None

    num_queries: int = 77  # length of the conditioning
    mapper_encoder_layers: int = 1
    mapper_decoder_layers: int = 1
    mapper_heads: int = 8
    mapper_ffn_dim: int | None = None  # None: four times the width of the conditioning

    side: int = 512  # longest side of a made picture unless the call says otherwise
    train_side: int | None = None  # side of the square that is learned from; None: `side`
    max_side: int = 1024  # longest side that a call may ask for
    steps: int
    guidance: float = 7.5

    train_unet: bool
    drop_rate: float
    snr_gamma: float | None = None  # Hang et al. 2023, section 3.4; None, as published: all steps weigh 1
    # Noise levels that a step of training shows each picture at, evenly spread from one that is drawn. Where
    # the router and the autoencoder cost more than the U-Net, several teach it more in the same time.
    levels: int = 1
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        latent = self.latent_channels
        channels = (self.unet.get("in_channels", 4), self.unet.get("out_channels", 4))
        if channels != (latent * (1 + self.sources), latent):
            raise ModelError(
                f"{self.name}: the U-Net has {channels[0]} channels in and {channels[1]} out; with "
                f"{latent} latent channels it needs {latent * (1 + self.sources)} and {latent}"
            )
        if self.levels < 1:
            raise ModelError(f"{self.name}: levels is at least 1, got {self.levels}")
        if self.width % self.mapper_heads:
            raise ModelError(
                f"{self.name}: cross_attention_dim is {self.width}, it must be a multiple of "
                f"mapper_heads {self.mapper_heads}"
            )
        if self.text_encoder is not None:
            given = (self.text_encoder["hidden_size"], self.text_encoder["max_position_embeddings"])
            if given != (self.width, self.num_queries) or len(self.empty_caption) != self.num_queries:
                raise ModelError(
                    f"{self.name}: the text encoder gives {given[1]} vectors of width {given[0]} and the "
                    f"empty caption has {len(self.empty_caption)} tokens; the conditioning has "
                    f"{self.num_queries} of width {self.width}"
                )
        predicts = self.scheduler.get("prediction_type", "epsilon")
        if predicts not in ("epsilon", "v_prediction", "sample"):
            raise ModelError(
                f"{self.name}: prediction_type is {predicts!r}, not 'epsilon', 'v_prediction' or 'sample'"
            )
        if not 0.0 <= self.drop_rate <= 1 / (2 + self.sources):
            raise ModelError(
                f"{self.name}: drop_rate is {self.drop_rate}, it must be in 0..1/{2 + self.sources}: "
                f"so many times that share is left out"
            )
        for field_name in ("side", "train_side"):
            side = getattr(self, field_name)
            if side is not None and (side % self.multiple or not 0 < side <= self.max_side):
                raise ModelError(
                    f"{self.name}: {field_name} is {side}, it must be a multiple of {self.multiple} "
                    f"and at most max_side {self.max_side}"
                )

    @property
    def latent_channels(self) -> int:
        return int(self.vae.get("latent_channels", 4))

    @property
    def width(self) -> int:
        """Width of the conditioning."""
        return int(self.unet.get("cross_attention_dim", 1280))

    @property
    def multiple(self) -> int:
        """Sides of pictures are multiples of this: the pixels of a latent cell."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def link_kinds(self) -> tuple[LinkKind, ...]:
        """All of them with a text encoder and its tokenizer, which read the words of links."""
        reads = self.text_encoder is not None and self.tokenizer is not None
        return ("super", "token", "text") if reads else ("super", "token")

    @property
    def learns_captions(self) -> bool:
        return self.text_encoder is not None and self.weights.caption > 0

    def packed(self, folder: Path) -> Self:
        """With the tokenizer's files in `folder`; a tokenizer that is nowhere stays named as it was."""
        from superlink.decoders.diffusion.captions import copy_tokenizer

        if self.tokenizer is None or not copy_tokenizer(Path(self.tokenizer), folder / _TOKENIZER):
            return self
        return replace(self, tokenizer=_TOKENIZER)

    def unpacked(self, folder: Path) -> Self:
        """With the tokenizer's folder in full."""
        if self.tokenizer is None:
            return self
        own = folder.absolute() / self.tokenizer
        # Folders saved by earlier versions name a place elsewhere, which stays named as it is.
        return replace(self, tokenizer=str(own)) if self.tokenizer == _TOKENIZER or own.is_dir() else self

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ModelError for an unknown field."""
        return from_plain(cls, data, {"weights": LossWeights})


@dataclass(frozen=True, kw_only=True)
class StableDiffusionConfig(DiffusionConfig):
    """Stable Diffusion (Rombach et al. 2022): a picture of what the link says."""

    sources = 0
    options = ("steps", "guidance", "height", "width")

    name: str = "stable_diffusion"
    routes: tuple[Route, ...] = field(default_factory=generation_routes)
    needs_image: bool = False
    unet: Mapping[str, Any] = field(default_factory=unet_options)
    scheduler: Mapping[str, Any] = field(default_factory=pndm_scheduler)
    steps: int = 50
    train_unet: bool = False
    drop_rate: float = 0.1  # no caption for twice this share of what is learned from

    def build(self, link_dim: int) -> DiffusionDecoder:
        from superlink.decoders.diffusion.stable_diffusion import StableDiffusionDecoder

        return StableDiffusionDecoder(self, link_dim)


@dataclass(frozen=True, kw_only=True)
class InstructPix2PixConfig(DiffusionConfig):
    """InstructPix2Pix (Brooks et al. 2023): the picture of the call, changed as the link says.

    The option `side` is the longest side at which the picture is edited; the answer has its own size.
    """

    sources = 1
    options = ("steps", "guidance", "image_guidance", "side")

    name: str = "instruct_pix2pix"
    routes: tuple[Route, ...] = field(default_factory=edit_routes)
    needs_image: bool = True
    unet: Mapping[str, Any] = field(default_factory=lambda: unet_options(8))
    scheduler: Mapping[str, Any] = field(default_factory=euler_ancestral_scheduler)
    train_side: int | None = 256
    steps: int = 100
    image_guidance: float = 1.5
    train_unet: bool = True
    # No caption, neither, no picture: each for this share of what is learned from.
    drop_rate: float = 0.05
    # The U-Net tells what changes: the picture's latents are those of the source and its prediction, which is
    # one of samples then. So a fresh one copies its source, and learns nothing but edits.
    from_source: bool = False
    # Where the edit changes nothing the answer has the source's own pixels, not the autoencoder's.
    keep_pixels: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        predicts = self.scheduler.get("prediction_type", "epsilon")
        if self.weights.change < 0:
            raise ModelError(f"{self.name}: weights.change is at least 0, got {self.weights.change}")
        if self.from_source and predicts != "sample":
            raise ModelError(f"{self.name}: from_source takes prediction_type 'sample', got {predicts!r}")

    def build(self, link_dim: int) -> DiffusionDecoder:
        from superlink.decoders.diffusion.instruct_pix2pix import InstructPix2PixDecoder

        return InstructPix2PixDecoder(self, link_dim)
