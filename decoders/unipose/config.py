"""Configuration of the UniPose decoder; defaults are the published system's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superlink.decoders.artifacts import Keypoints
from superlink.decoders.contract import Call, DecoderConfig, Route
from superlink.decoders.grounding_dino.config import GroundingDinoConfig, perception_routes, swin_backbone
from superlink.decoders.plain import from_plain, to_plain
from superlink.router.errors import InputError, ModelError
from superlink.router.tokens import RoutingToken

if TYPE_CHECKING:
    from superlink.decoders.unipose.decoder import UniPoseDecoder


def pose_routes(num_links: int = 4) -> tuple[Route, ...]:
    """[POSE] keypoints of the objects that the [DET] links of the same reply name."""
    objects = perception_routes(num_links)[0].token
    pose = RoutingToken(text="[POSE]", decoder="unipose", table="pose", num_links=num_links)
    return (Route(token=pose, returns=Keypoints, takes=(objects,)),)


def published_detector() -> GroundingDinoConfig:
    """The part that finds the objects: Swin-T, 900 queries, no masks, no dropout."""
    return GroundingDinoConfig(
        backbone=swin_backbone() | {"drop_path_rate": 0.2, "out_features": ["stage2", "stage3", "stage4"]},
        mask_dim=0,
        dropout=0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseWeights:
    """Weights of the keypoint terms; those of classes and boxes are the detector's."""

    keypoints: float = 10.0
    oks: float = 4.0  # the published loss takes that of `keypoints` by mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseCosts:
    """What keypoints add to the matching cost."""

    keypoints: float = 10.0
    oks: float = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UniPoseConfig(DecoderConfig):
    """Keypoints on top of a detector.

    `detector` has the sizes, the picture frame, the class and box losses, the denoising and the serving
    defaults; its own name and routes play no part, and it has no masks.
    """

    name: str = "unipose"
    routes: tuple[Route, ...] = field(default_factory=pose_routes)
    gather: bool = True
    needs_image: bool = True

    detector: GroundingDinoConfig = field(default_factory=published_detector)
    box_layers: int = 2  # decoder layers before instances get their keypoints
    num_instances: int = 50  # best boxes after those layers
    max_keypoints: int = 68  # of one call
    keypoint_names: tuple[str, ...] | None = None  # what it was taught; None: any name is accepted
    # True: as published, queries of neighbouring instances leak into each other at inference, because
    # their mask was built with blocks of one query too few. False: as in training.
    legacy_group_mask: bool = False

    costs: PoseCosts = field(default_factory=PoseCosts)
    weights: PoseWeights = field(default_factory=PoseWeights)
    area_share: float = 0.53  # object's area over that of its box, for OKS (mmpose, where areas are unknown)

    def __post_init__(self) -> None:
        if self.detector.mask_dim:
            raise ModelError(
                f"{self.name} has no masks, but its detector has mask_dim {self.detector.mask_dim}"
            )
        if not 1 <= self.box_layers < self.detector.decoder_layers:
            raise ModelError(
                f"box_layers is {self.box_layers}, it must be at least 1 and below the "
                f"{self.detector.decoder_layers} decoder layers"
            )
        for field_name in ("num_instances", "max_keypoints"):
            if getattr(self, field_name) < 1:
                raise ModelError(f"{field_name} is {getattr(self, field_name)}, it must be at least 1")
        for route in self.routes:
            if len(route.takes) != 1 or route.returns is not Keypoints:
                raise ModelError(
                    f"{self.name}'s route {route.token.text!r} must return Keypoints and take the links of "
                    f"one token for objects, not {[token.text for token in route.takes]}"
                )

    def check(self, call: Call) -> None:
        """Raises InputError for a call that names no object, or too many or unknown keypoints."""
        route = self.route(call)
        if not call.parts:
            raise InputError(
                f"call {call.id!r} has links of {call.token.text} alone; {self.name} needs the objects and "
                f"the keypoints to look for, such as 'the nose of every person'"
            )
        found = [link.token.text for link in call.links]
        expected = [route.takes[0].text] * len(call.names) + [route.token.text] * len(call.parts)
        if found != expected:
            raise InputError(
                f"call {call.id!r} has links of {', '.join(found)}; {self.name} needs all of "
                f"{route.takes[0].text} first, for objects, and then those of {route.token.text}"
            )
        if len(call.parts) > self.max_keypoints:
            raise InputError(
                f"call {call.id!r} asks for {len(call.parts)} keypoints; {self.name} finds at most "
                f"{self.max_keypoints} at once, ask for fewer"
            )
        known = self.keypoint_names
        unknown = [name for name in call.parts if known is not None and name not in known]
        if known is not None and unknown:
            raise InputError(
                f"call {call.id!r} asks for keypoints that {self.name} does not know: {', '.join(unknown)}; "
                f"it knows {', '.join(known)}"
            )

    def build(self, link_dim: int) -> UniPoseDecoder:
        from superlink.decoders.unipose.decoder import UniPoseDecoder

        return UniPoseDecoder(self, link_dim)

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> UniPoseConfig:
        """Raises ModelError for an unknown field."""
        parts = {"detector": GroundingDinoConfig, "costs": PoseCosts, "weights": PoseWeights}
        return from_plain(cls, data, parts)
