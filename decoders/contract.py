"""The decoder contract: one class, three lives (in process, as a Ray actor, in joint training).

The tuple of decoder configs IS the system: vocabulary, dispatch, actors and training heads
follow from it. A new decoder is one file and its config in a tuple.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from superlink.decoders.artifacts import Artifact
from superlink.router.errors import DecoderError, InputError, LinkError
from superlink.router.links import LinkBatch, SuperLink
from superlink.router.tokens import LinkKind, RoutingToken

if TYPE_CHECKING:
    from typing_extensions import Self

Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a decoder answers to one routing token."""

    token: RoutingToken
    returns: type[Artifact]  # Boxes, Masks, ...
    top: int | None = None  # keep only the best `top` items of each link (1 for [GRD])
    # Routing token of another decoder, which answers the same links first; what it finds is
    # among the `inputs` of the call ("[DET]" for masks of detected boxes).
    after: str | None = None
    # Other tokens whose links of the same reply join the call, before its own: the objects ([DET]) that
    # keypoints ([POSE]) belong to.
    takes: tuple[RoutingToken, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One piece of work for a decoder."""

    id: str  # "grounding_dino.0", unique within a turn
    # All of one routing token when the decoder gathers, else one; those that its route takes come first.
    links: tuple[SuperLink, ...]
    image: NDArray[np.uint8] | None = None  # (H, W, 3) RGB, upright
    image_id: str = ""  # content hash of `image`
    inputs: tuple[Artifact, ...] = ()  # artifacts of earlier calls or rounds that it builds on
    seed: int = 0
    threshold: float | None = None  # least score to keep; None = the decoder's own
    # What only one decoder understands ("steps", "guidance"), in place of its configuration; it refuses
    # what it does not know.
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def token(self) -> RoutingToken:
        """The token that is answered: that of the last link."""
        return self.links[-1].token

    @property
    def names(self) -> tuple[str, ...]:
        """The phrases of the links of the first token: class k of the call is link k."""
        return tuple(link.phrase for link in self.links if link.token.text == self.links[0].token.text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The phrases of all further links: the keypoints of those classes."""
        return tuple(link.phrase for link in self.links[len(self.names) :])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """The answer to one call."""

    call_id: str  # `Call.id`
    artifact: Artifact  # of the type that the route returns, in pixels of the call's own picture
    seconds: float = 0.0  # from the start of the batch that the call ran in to its end; 0 = not measured


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failure:
    """A decoder that failed is a value, never a lost turn."""

    call_id: str
    error: str  # one line
    kind: str  # "input" | "decoder" | "timeout" | "cancelled" | "busy" | "lost"


Outcome = Result | Failure


class DecoderConfig(ABC):
    """Frozen, keyword-only dataclasses implement this; JSON in and out with `to_json`."""

    name: str  # "grounding_dino"
    routes: tuple[Route, ...]
    gather: bool  # True: all links of one routing token in a reply form one call
    needs_image: bool
    options: ClassVar[tuple[str, ...]] = ()  # names that `Call.options` may have
    # Points, boxes and masks that a person drew ("region1") are among the inputs of the calls for them.
    promptable: ClassVar[bool] = False

    @property
    def link_kinds(self) -> tuple[LinkKind, ...]:
        """Kinds of links that it can answer; "text" is for decoders that read the phrase themselves."""
        return ("super", "token")

    def route(self, call: Call) -> Route:
        """The route that answers a call.

        Raises:
            DecoderError: none does.
        """
        for route in self.routes:
            if route.token.text == call.token.text:
                return route
        known = ", ".join(route.token.text for route in self.routes)
        raise DecoderError(f"{self.name} answers {known}, not {call.token.text} (call {call.id!r})")

    def check(self, call: Call) -> None:
        """Refuse what cannot be answered whatever the picture shows.

        Raises:
            InputError: the links or phrases of the call do not fit.
            DecoderError: no route answers it.
        """
        self.route(call)

    def pictures(self, calls: Sequence[Call]) -> list[NDArray[np.uint8]]:
        """(H, W, 3) of every call.

        Raises:
            InputError: a call has none, or something else.
        """
        found = []
        for call in calls:
            if call.image is None:
                raise InputError(f"call {call.id!r} has no picture; {self.name} needs one")
            shape, kind = call.image.shape, call.image.dtype
            if len(shape) != 3 or shape[2] != 3 or kind != np.uint8:
                raise InputError(
                    f"call {call.id!r} has a picture of shape {shape} and type {kind}; "
                    f"{self.name} needs (height, width, 3) of uint8"
                )
            found.append(call.image)
        return found

    def packed(self, folder: Path) -> Self:
        """This configuration for `config.json` in `folder`: what it names elsewhere is copied there.

        A model folder then works wherever it is moved to. Decoders that read other files than their
        configuration and weights copy them, and name them relative to `folder`.

        Raises:
            InputError: the folder cannot be written.
        """
        return self

    def unpacked(self, folder: Path) -> Self:
        """The configuration that `packed` made, read from `folder`: what it names is found there."""
        return self

    @abstractmethod
    def build(self, link_dim: int) -> Decoder[Any, Any]:
        """A decoder with fresh weights for links of width `link_dim`."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` takes back."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> DecoderConfig: ...


class Decoder(nn.Module, ABC, Generic[Inputs, Outputs]):
    """Turns links (and a picture) into artifacts. Lists in, lists out; batch of n = n of one.

    Serving:   inputs = prepare(calls); outputs = decoder(LinkBatch.of(...), inputs);
               artifacts = postprocess(outputs, inputs)
    Training:  inputs = prepare(calls, targets); outputs = decoder(links, inputs);
               terms = loss(outputs, inputs, count=...); total = sum(weights[k] * terms[k])
    """

    config: DecoderConfig
    link_dim: int  # width of the links that it was built for
    # Whether it computes with weights in bfloat16 or float16. All compute with float32 under autocast.
    half_weights: ClassVar[bool] = True

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def embeddings_of(self, links: LinkBatch) -> Tensor:
        """(B, K, L, D) of links that have the right width; what a forward begins with.

        Raises:
            LinkError: they have another one.
            DecoderError: the weights are in a precision that the decoder does not compute in.
        """
        if not self.half_weights:
            for parameter in self.parameters():
                if parameter.dtype in (torch.bfloat16, torch.float16):
                    raise DecoderError(
                        f"the weights of {self.config.name} must be float32, got {parameter.dtype}; "
                        f"keep them so and use torch.autocast to compute in less"
                    )
        width = links.embeddings.shape[-1]
        if width != self.link_dim:
            raise LinkError(f"{self.config.name} was built for links of width {self.link_dim}, got {width}")
        return links.embeddings

    @abstractmethod
    def prepare(self, calls: Sequence[Call], targets: Sequence[Artifact] | None = None) -> Inputs:
        """Pictures and labels to tensors on this module's device, in the decoder's own frame."""

    @abstractmethod
    def forward(self, links: LinkBatch, inputs: Inputs) -> Outputs:
        """Links and prepared calls to predictions, with graph where gradients are on.

        Args:
            links: (B, K, L, D) of the calls that `inputs` was prepared from, in their order; D is `link_dim`.
            inputs: of `prepare`; with targets where a loss follows.

        Returns:
            Predictions in the decoder's own frame, for `loss` and `postprocess` together with `inputs`.

        Raises:
            LinkError: links of another width than the decoder was built for.
        """

    @abstractmethod
    def count(self, inputs: Inputs) -> float:
        """What the loss is normalised by (objects in the batch), before any floor.

        The trainer sums it over all workers, then passes `count` = max(sum, 1) / workers to
        `loss`, so that averaged gradients equal those of one process with the whole batch.
        It can be below 1: `loss` divides by it as it is.
        """

    @abstractmethod
    def loss(self, outputs: Outputs, inputs: Inputs, *, count: float) -> dict[str, Tensor]:
        """Unweighted terms by name, each a scalar with graph."""

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Weight of every term that `loss` can return."""

    @abstractmethod
    def postprocess(self, outputs: Outputs, inputs: Inputs) -> list[Artifact]:
        """One artifact a call, in the picture's own pixels; `inputs` remembers the calls."""
