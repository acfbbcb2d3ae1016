"""Configuration of the Grounding DINO decoder; defaults are the published system's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers import GroundingDinoConfig as LayerConfig

from superlink.decoders.artifacts import Boxes, Masks
from superlink.decoders.contract import DecoderConfig, Route
from superlink.decoders.plain import from_plain, to_plain
from superlink.router.errors import ModelError
from superlink.router.tokens import RoutingToken

if TYPE_CHECKING:
    from superlink.decoders.grounding_dino.decoder import GroundingDinoDecoder


def perception_routes(num_links: int = 4) -> tuple[Route, ...]:
    """[DET] boxes of everything, [GRD] the best box of each phrase, [SEG] masks; one query table."""
    det, grd, seg = (
        RoutingToken(text=text, decoder="grounding_dino", table="det", num_links=num_links)
        for text in ("[DET]", "[GRD]", "[SEG]")
    )
    return (
        Route(token=det, returns=Boxes),
        Route(token=grd, returns=Boxes, top=1),
        Route(token=seg, returns=Masks),
    )


def swin_backbone() -> dict[str, Any]:
    """Swin-T with all four stages: stride 4 feeds the masks, strides 8 to 32 the encoder."""
    return {
        "model_type": "swin",
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "drop_path_rate": 0.1,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms; the same for every stage that has the term."""

    ce: float = 2.0
    bbox: float = 5.0
    giou: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    dense: float = 0.0  # classes of every encoder cell (dense.py); 0, as published: no such term


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchCosts:
    """Weights of the matching cost; masks are not part of it."""

    ce: float = 2.0
    bbox: float = 5.0
    giou: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingDinoConfig(DecoderConfig):
    """Sizes, picture frame, losses and serving defaults.

    `backbone` is any transformers backbone configuration as a dict with `model_type` and
    `out_features`. With `mask_dim` > 0 its first stage feeds the mask branch and the others the
    encoder; with `mask_dim` 0 there are no masks and every stage feeds the encoder.
    """

    name: str = "grounding_dino"
    routes: tuple[Route, ...] = field(default_factory=perception_routes)
    gather: bool = True
    needs_image: bool = True

    backbone: Mapping[str, Any] = field(default_factory=swin_backbone)
    d_model: int = 256
    norm_groups: int = 32  # of every group norm
    num_queries: int = 900
    num_feature_levels: int = 4  # more than the backbone gives: further levels by strided convolution
    encoder_layers: int = 6
    encoder_heads: int = 8  # fusion and text layers have half of them, and half the feed-forward width
    encoder_ffn_dim: int = 2048
    encoder_points: int = 4
    decoder_layers: int = 6
    decoder_heads: int = 8
    decoder_ffn_dim: int = 2048
    decoder_points: int = 4
    activation: str = "relu"
    dropout: float = 0.1
    fusion_droppath: float = 0.1
    layer_norm_eps: float = 1e-5
    temperature: int = 20  # of the sine encoding of picture positions
    mask_dim: int = 256
    mask_hidden: int | None = None  # width of the mask branch; None: d_model
    fusion_scale: float = 1e-4  # initial weight of what fusion adds; larger when training from scratch
    # None: class logits are bare dot products with the encoder's class vectors, as published. A
    # probability, for training from scratch: products with the projected links, with a learned scale, a
    # learned bias that starts at this probability, and a logit that all classes share.
    class_prior: float | None = None

    shortest: int = 800  # sides of the scaled picture
    longest: int = 1333
    # Frame of longest x longest. False: the smallest, in multiples of 32: that of the batch in training, each
    # picture's own in serving, where calls of unequal frames do not share a pass.
    square: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    costs: MatchCosts = field(default_factory=MatchCosts)
    weights: LossWeights = field(default_factory=LossWeights)
    focal_alpha: float = 0.25
    num_points: int | None = 12544  # mask points of an object; None: every cell of the mask map
    oversample: float = 3.0
    uncertain: float = 0.75  # share of the points taken where the mask is least certain
    encoder_masks: bool = True  # mask terms for the two-stage proposals
    dn_number: int = 100  # denoising queries of each sign, shared out over groups; 0: no denoising
    dn_groups: int | None = None  # a fixed number of groups, so that they do not depend on the batch
    dn_label_noise: float = 0.5  # half of it is the share of flipped labels
    dn_box_noise: float = 1.0
    dn_hide_padding: bool = True  # False, as published: padded denoising queries are attended to
    empty_batches: bool = True  # False, as published: a batch without any object teaches nothing

    threshold: float = 0.3  # least score served
    grounding_threshold: float = 0.05  # the same for routes with `top`, which expect an answer
    max_detections: int = 100
    # Masks are cut at their box, grown by this share of its size on every side; None: not cut.
    mask_margin: float | None = 0.1
    merge_iou: float | None = 0.7  # boxes of one class that overlap more are one; None: no merging

    def __post_init__(self) -> None:
        stages = len(self.backbone.get("out_features") or ())
        levels = stages - (1 if self.mask_dim else 0)
        if not 1 <= levels <= self.num_feature_levels:
            raise ModelError(
                f"num_feature_levels is {self.num_feature_levels}, but the backbone's out_features "
                f"{self.backbone.get('out_features')!r} give {levels} encoder levels "
                f"({'the first is for masks' if self.mask_dim else 'mask_dim is 0'})"
            )
        if self.d_model % 4:
            raise ModelError(f"d_model is {self.d_model}, it must be a multiple of 4")
        for field_name in ("d_model", "mask_hidden"):
            width = getattr(self, field_name)
            if width is not None and width % self.norm_groups:
                raise ModelError(
                    f"{field_name} is {width}, it must be a multiple of norm_groups {self.norm_groups}"
                )

    def build(self, link_dim: int) -> GroundingDinoDecoder:
        from superlink.decoders.grounding_dino.decoder import GroundingDinoDecoder

        return GroundingDinoDecoder(self, link_dim)

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GroundingDinoConfig:
        """Raises ModelError for an unknown field."""
        return from_plain(cls, data, {"costs": MatchCosts, "weights": LossWeights})

    def layer_config(self) -> LayerConfig:
        """The part that transformers' own layers read."""
        return LayerConfig(
            d_model=self.d_model,
            encoder_ffn_dim=self.encoder_ffn_dim,
            encoder_attention_heads=self.encoder_heads,
            decoder_ffn_dim=self.decoder_ffn_dim,
            decoder_attention_heads=self.decoder_heads,
            encoder_n_points=self.encoder_points,
            decoder_n_points=self.decoder_points,
            num_feature_levels=self.num_feature_levels,
            activation_function=self.activation,
            dropout=self.dropout,
            fusion_droppath=self.fusion_droppath,
            layer_norm_eps=self.layer_norm_eps,
            positional_embedding_temperature=self.temperature,
        )
