"""Routing tokens: the few words of the router's vocabulary that hand work to a decoder.

The special tokens and their order are those of VisionLLM v2 (added ids follow the base
vocabulary in this order), so its checkpoints keep their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LinkKind = Literal["super", "token", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingToken:
    """A token after which `num_links` learned queries are appended.

    Tokens that name the same `table` share one table of queries.
    `kind`: "super" = hidden states of the appended queries; "token" = hidden state of the
    routing token itself (LISA); "text" = the phrase only, for the decoder's own text encoder.
    """

    text: str  # "[DET]"
    decoder: str  # name of the decoder that answers, as in its config
    table: str  # "det": name of the query table
    num_links: int = 4
    kind: LinkKind = "super"


PAD = "[PAD]"
IMAGE = "<image>"  # stands for one picture in a message
IMAGE_PATCH = "<im_patch>"  # one visual token
REGION = "<region>"  # one visual prompt
IMAGE_START, IMAGE_END = "<img>", "</img>"
REGION_START, REGION_END = "<reg>", "</reg>"
PHRASE_START, PHRASE_END = "<det>", "</det>"  # around the words that a link stands for
GROUND_START, GROUND_END = "<grd>", "</grd>"
ROUTING_TEXTS = ("[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]")
LINK_PLACEHOLDERS = ("[EMB]", "[EMB2]", "[EMB3]", "[EMB4]", "[EMB5]", "[EMB6]", "[EMB7]", "[EMB8]")

SPECIAL_TOKENS: tuple[str, ...] = (
    PAD,
    IMAGE,
    IMAGE_PATCH,
    REGION,
    IMAGE_START,
    IMAGE_END,
    REGION_START,
    REGION_END,
    PHRASE_START,
    PHRASE_END,
    GROUND_START,
    GROUND_END,
    *ROUTING_TEXTS,
    *LINK_PLACEHOLDERS,
)
