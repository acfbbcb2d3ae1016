"""Configuration of the Segment Anything decoder; defaults are the published ViT-H."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers import SamConfig as LayerConfig
from transformers import SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from superlink.decoders.artifacts import Masks
from superlink.decoders.contract import DecoderConfig, Route
from superlink.decoders.plain import from_plain, to_plain
from superlink.router.errors import ModelError
from superlink.router.tokens import RoutingToken

if TYPE_CHECKING:
    from superlink.decoders.sam.decoder import SamDecoder


def mask_routes(num_links: int = 4, *, after: str | None = "[DET]") -> tuple[Route, ...]:
    """[SEG] masks, of the boxes that the decoder behind the routing token `after` finds first.

    With `after=None` a link alone asks for its mask, as in LISA. The query table is the detector's.
    """
    seg = RoutingToken(text="[SEG]", decoder="sam", table="det", num_links=num_links)
    return (Route(token=seg, returns=Masks, after=after),)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms; the defaults are those of Kirillov et al. 2023, appendix A."""

    mask: float = 20.0
    dice: float = 1.0
    iou: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMix:
    """How often a label is asked for by what, while training; only proportions count.

    `link`: the link alone, for all objects of its label together. The others ask for one object,
    with its link and a noisy box, a few points, or a coarse mask with a noisy box.
    """

    link: float = 1.0
    box: float = 1.0
    points: float = 1.0
    mask: float = 1.0
    draws: int = 1  # prompts of each object; the image encoder, which costs the most, sees it once

    def __post_init__(self) -> None:
        shares = (self.link, self.box, self.points, self.mask)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ModelError(f"shares of training prompts are >= 0 and not all 0, got {self}")
        if self.draws < 1:
            raise ModelError(f"draws of training prompts is {self.draws}, it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamConfig(DecoderConfig):
    """Sizes, picture frame, losses and serving defaults."""

    promptable = True

    name: str = "sam"
    routes: tuple[Route, ...] = field(default_factory=mask_routes)
    gather: bool = True
    needs_image: bool = True

    image_size: int = 1024  # side of the square frame
    patch_size: int = 16
    vision_width: int = 1280
    vision_layers: int = 32
    vision_heads: int = 16
    vision_ffn_dim: int | None = None  # None: 4 * vision_width
    vision_norm_eps: float = 1e-6
    window: int = 14  # side of the attention windows, in patches
    global_layers: tuple[int, ...] = (7, 15, 23, 31)  # the others attend within windows
    d_model: int = 256  # of prompts and mask decoder
    mask_channels: int = 16  # of the mask prompt's convolutions
    decoder_layers: int = 2
    decoder_heads: int = 8
    decoder_ffn_dim: int = 2048
    decoder_norm_eps: float = 1e-5  # as published; transformers' own default differs
    attention_downsample: int = 2
    num_multimask: int = 3
    iou_layers: int = 3
    iou_hidden: int = 256
    # False: boxes, clicks and masks only, for published weights that no link was trained with.
    link_prompts: bool = True

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    mask_prompt_logit: float = 10.0  # a painted pixel as a mask prompt; minus it outside

    prompts: PromptMix = field(default_factory=PromptMix)
    box_noise: float = 0.1  # standard deviation of a training box's corner, of the box's side
    box_noise_limit: float = 20.0  # frame pixels; both as published, appendix A
    max_points: int = 4  # of one training prompt
    weights: LossWeights = field(default_factory=LossWeights)
    focal_gamma: float = 2.0  # 0 with focal_alpha None: plain cross-entropy
    focal_alpha: float | None = 0.25

    multimask: bool = False  # True: three masks a prompt, of which the one that scores best is kept
    threshold: float = 0.3  # least score served of a mask that a link alone asked for
    cached_pictures: int = 8  # whose features are kept
    pictures_at_once: int = 4  # of one pass through the image encoder
    prompts_at_once: int = 32  # of one pass through the mask decoder

    def __post_init__(self) -> None:
        for whole, part in (
            (("image_size", self.image_size), ("patch_size", self.patch_size)),
            (("patch_size", self.patch_size), ("the four mask cells of its side", 4)),
            (("vision_width", self.vision_width), ("vision_heads", self.vision_heads)),
            (("d_model", self.d_model), ("the mask decoder's upscaling", 8)),
            (
                ("d_model / attention_downsample", self.d_model // self.attention_downsample),
                ("decoder_heads", self.decoder_heads),
            ),
            (("mask_channels", self.mask_channels), ("its two convolutions", 4)),
        ):
            if whole[1] % part[1]:
                raise ModelError(f"{whole[0]} is {whole[1]}, it must be a multiple of {part[1]} ({part[0]})")
        if any(not 0 <= layer < self.vision_layers for layer in self.global_layers):
            raise ModelError(f"global_layers {self.global_layers} are not all below {self.vision_layers}")
        least = {"window": 1, "iou_layers": 2, "max_points": 1, "pictures_at_once": 1, "prompts_at_once": 1}
        for name, value in (least | {"cached_pictures": 0}).items():
            if getattr(self, name) < value:
                raise ModelError(f"{name} is {getattr(self, name)}, it must be at least {value}")

    @property
    def grid(self) -> int:
        """Side of the image features, in cells."""
        return self.image_size // self.patch_size

    @property
    def mask_stride(self) -> int:
        """Frame pixels of a mask cell."""
        return self.patch_size // 4

    def build(self, link_dim: int) -> SamDecoder:
        from superlink.decoders.sam.decoder import SamDecoder

        return SamDecoder(self, link_dim)

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SamConfig:
        """Raises ModelError for an unknown field."""
        return from_plain(cls, data, {"prompts": PromptMix, "weights": LossWeights})

    def layer_config(self) -> LayerConfig:
        """The part that transformers' own layers read."""
        vision = SamVisionConfig(
            hidden_size=self.vision_width,
            output_channels=self.d_model,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=self.vision_heads,
            mlp_dim=self.vision_ffn_dim or 4 * self.vision_width,
            image_size=self.image_size,
            patch_size=self.patch_size,
            layer_norm_eps=self.vision_norm_eps,
            window_size=self.window,
            global_attn_indexes=list(self.global_layers),
            num_pos_feats=self.d_model // 2,
            initializer_range=0.02,
        )
        # Fresh frequencies of the position encoding: transformers draws them so wide that
        # neighbouring pixels have nothing in common; the published code draws them at 1.
        vision.scale = 1
        prompt = SamPromptEncoderConfig(
            hidden_size=self.d_model,
            image_size=self.image_size,
            patch_size=self.patch_size,
            mask_input_channels=self.mask_channels,
        )
        decoder = SamMaskDecoderConfig(
            hidden_size=self.d_model,
            mlp_dim=self.decoder_ffn_dim,
            num_hidden_layers=self.decoder_layers,
            num_attention_heads=self.decoder_heads,
            attention_downsample_rate=self.attention_downsample,
            num_multimask_outputs=self.num_multimask,
            iou_head_depth=self.iou_layers,
            iou_head_hidden_dim=self.iou_hidden,
            layer_norm_eps=self.decoder_norm_eps,
        )
        return LayerConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def small_sam(num_links: int = 4) -> SamConfig:
    """2 M parameters at 224 pixels, to be trained from scratch and run on a CPU."""
    return SamConfig(
        routes=mask_routes(num_links),
        image_size=224,
        patch_size=8,
        vision_width=128,
        vision_layers=4,
        vision_heads=4,
        window=7,
        global_layers=(1, 3),
        d_model=128,
        decoder_ffn_dim=256,
        decoder_heads=4,
        iou_hidden=128,
        weights=LossWeights(mask=5.0, dice=5.0, iou=1.0),
        focal_gamma=0.0,
        focal_alpha=None,
    )
