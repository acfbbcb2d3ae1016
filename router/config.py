"""What a router is made of: one frozen value, saved as `config.json`.

The routing tokens are part of it; vocabulary ids, tables of link queries and the placeholder
groups all follow from them. A decoder is never named here in any other way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from superlink.router.errors import ModelError
from superlink.router.tokens import (
    IMAGE_PATCH,
    LINK_PLACEHOLDERS,
    REGION,
    SPECIAL_TOKENS,
    LinkKind,
    RoutingToken,
)

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig, LlamaConfig

Tiling = Literal["anyres", "square", "pad"]
RegionPooling = Literal["grid_sample", "mean", "cross_attn"]
Record = TypeVar("Record")

BRIDGES = re.compile(r"linear|internvl_mlp|mlp[1-9]\d*x_gelu")
_REGION_CELL = 2  # the stem of the region encoder halves a patch


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """Ids of the tokens that the model treats specially."""

    pad: int
    bos: int
    eos: int
    special: Mapping[str, int]  # text of a special token -> its id

    @classmethod
    def following(
        cls, first: int, *, pad: int = 0, bos: int = 1, eos: int = 2, texts: tuple[str, ...] = SPECIAL_TOKENS
    ) -> TokenIds:
        """Special tokens added behind a base vocabulary of `first` entries, in the usual order."""
        ids = {text: first + index for index, text in enumerate(texts)}
        return cls(pad=pad, bos=bos, eos=eos, special=ids)

    def __getitem__(self, text: str) -> int:
        if text not in self.special:
            raise ModelError(
                f"the vocabulary has no token {text!r}; add it to the special tokens of the model"
            )
        return self.special[text]

    @property
    def image_patch(self) -> int:
        return self[IMAGE_PATCH]

    @property
    def region(self) -> int:
        return self[REGION]

    @property
    def placeholders(self) -> tuple[int, ...]:
        """Ids that stand where link queries are inserted, first to last."""
        return tuple(self[text] for text in LINK_PLACEHOLDERS)


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """Vision tower, bridge, region encoder, language model and routing tokens."""

    # Keyword arguments of transformers' CLIPVisionConfig; or, with a `model_type`, those of a backbone of
    # transformers with one feature map, and beside them `image_size` and `patch_size`, the map's stride.
    vision: Mapping[str, Any]
    llm: Mapping[str, Any]  # keyword arguments of transformers' LlamaConfig
    tokens: tuple[RoutingToken, ...]
    token_ids: TokenIds
    bridge: str = "mlp2x_gelu"  # "linear", "mlp<N>x_gelu" or "internvl_mlp"
    vision_layer: int = -2  # index into CLIP's hidden states; 0 = its embeddings
    pixel_shuffle: bool = False  # merge 2 x 2 visual tokens into one of four times the width
    places: bool = False  # visual tokens get the size of words, and learn where they are in their tile
    region_encoder: bool = True
    region_pooling: RegionPooling = "grid_sample"
    region_points: int = 2304  # most mask pixels that are sampled of one region
    tiling: Tiling = "anyres"
    max_tiles: int = 4  # without the overview tile
    freeze_vision: bool = True  # the tower runs without graph
    template: str = "plain_chat"  # layout of conversations, see templates.py
    # Read questions in lower case and with a space in front, so that a word has the same ids wherever
    # it stands: for small models, which would have to learn every spelling of it.
    fold_case: bool = False
    # Tables whose groups repeat the first placeholder id; other groups number theirs.
    repeating_tables: tuple[str, ...] = ("gen", "edit")

    def __post_init__(self) -> None:
        if not BRIDGES.fullmatch(self.bridge):
            raise ModelError(
                f"bridge {self.bridge!r} is unknown; use 'linear', 'mlp<N>x_gelu' or 'internvl_mlp'"
            )
        for name, value, allowed in (
            ("tiling", self.tiling, get_args(Tiling)),
            ("region_pooling", self.region_pooling, get_args(RegionPooling)),
        ):
            if value not in allowed:
                raise ModelError(f"{name} {value!r} is unknown; use one of {', '.join(allowed)}")
        if self.max_tiles < 1 or self.region_points < 1:
            raise ModelError(
                f"max_tiles and region_points must be at least 1, "
                f"got {self.max_tiles} and {self.region_points}"
            )
        self._check_vision()
        self._check_tokens()

    def _check_vision(self) -> None:
        side, patch = self.image_size, self.patch_size
        if side % patch or (self.pixel_shuffle and side // patch % 2):
            multiple = 2 * patch if self.pixel_shuffle else patch
            raise ModelError(f"image_size must be a multiple of {multiple}, got {side}")
        if self.region_encoder and patch % _REGION_CELL:
            raise ModelError(f"the region encoder needs an even patch_size, got {patch}")
        if self.sees_through_backbone:
            maps = list(self.backbone_config().out_features)
            if len(maps) != 1:
                raise ModelError(f"a backbone as vision tower gives one feature map, got out_features {maps}")
            return
        layers = self.vision_config().num_hidden_layers
        if not -layers - 1 <= self.vision_layer <= layers:
            raise ModelError(f"vision_layer {self.vision_layer} does not exist in a tower of {layers} layers")

    def _check_tokens(self) -> None:
        lengths: dict[str, tuple[int, str]] = {}
        for token in self.tokens:
            if token.kind not in get_args(LinkKind) or token.num_links < 1:
                raise ModelError(
                    f"routing token {token.text!r} needs a link kind of {', '.join(get_args(LinkKind))} "
                    f"and at least 1 link, got {token.kind!r} and {token.num_links}"
                )
            if token.kind != "super":
                if token.num_links != 1:
                    raise ModelError(
                        f"routing token {token.text!r} of kind {token.kind!r} has one link, "
                        f"got {token.num_links}"
                    )
                continue
            if not _can_name_a_table(token.table):
                raise ModelError(
                    f"routing token {token.text!r} names its query table {token.table!r}; take a name of "
                    f"letters, digits and '_' that is no attribute of a torch module"
                )
            length, other = lengths.setdefault(token.table, (token.num_links, token.text))
            if length != token.num_links:
                raise ModelError(
                    f"routing tokens {other!r} and {token.text!r} share the query table {token.table!r} "
                    f"but need {length} and {token.num_links} links; give them tables of their own"
                )
        if len({token.text for token in self.tokens}) != len(self.tokens):
            raise ModelError(f"a routing token is listed twice: {[token.text for token in self.tokens]}")
        used = [self.token_ids[token.text] for token in self.tokens]
        used += [self.token_ids.image_patch, self.token_ids.region, *self.token_ids.placeholders]
        vocabulary = self.llm_config().vocab_size
        if max(used) >= vocabulary:
            raise ModelError(f"special token ids go up to {max(used)}, but llm vocab_size is {vocabulary}")

    def vision_config(self) -> CLIPVisionConfig:
        from transformers import CLIPVisionConfig

        config: CLIPVisionConfig = _transformers_config(CLIPVisionConfig, self.vision, "vision")
        return config

    @property
    def sees_through_backbone(self) -> bool:
        """Whether the vision tower is a backbone of transformers and not CLIP."""
        return "model_type" in self.vision

    def backbone_config(self) -> Any:
        """The configuration of a vision tower that is not CLIP.

        Raises:
            ModelError: transformers has no such backbone, or not with these fields.
        """
        from transformers import AutoConfig

        data = {name: value for name, value in self.vision.items() if name not in _FRAME}
        try:
            kind = type(AutoConfig.for_model(data.pop("model_type")))
        except ValueError as error:
            raise ModelError(f"vision: {' '.join(str(error).split())}") from error
        config = _transformers_config(kind, data, "vision")
        if not hasattr(config, "out_features"):
            raise ModelError(f"vision: {kind.__name__} is not the configuration of a backbone")
        return config

    def llm_config(self) -> LlamaConfig:
        from transformers import LlamaConfig

        config: LlamaConfig = _transformers_config(LlamaConfig, self.llm, "llm")
        return config

    @cached_property
    def image_size(self) -> int:
        """Side S of a tile in pixels."""
        return int(self._vision_field("image_size"))

    @cached_property
    def patch_size(self) -> int:
        return int(self._vision_field("patch_size"))

    @cached_property
    def width(self) -> int:
        """D: width of the language model and of every link."""
        return int(self.llm_config().hidden_size)

    @cached_property
    def max_positions(self) -> int:
        """Longest row that the language model takes, placeholders included."""
        return int(self.llm_config().max_position_embeddings)

    @property
    def tokens_per_tile(self) -> int:
        """Number of `<im_patch>` ids that stand for one tile."""
        patches = (self.image_size // self.patch_size) ** 2
        return patches // 4 if self.pixel_shuffle else patches

    @property
    def tables(self) -> dict[str, int]:
        """Name and length of every table of link queries."""
        return {token.table: token.num_links for token in self.tokens if token.kind == "super"}

    @cached_property
    def routing_ids(self) -> dict[int, RoutingToken]:
        """Routing tokens by vocabulary id."""
        return {self.token_ids[token.text]: token for token in self.tokens}

    def placeholders(self, token: RoutingToken) -> tuple[int, ...]:
        """Ids written after `token`, one for each query; none for a link kind without queries."""
        if token.kind != "super":
            return ()
        ids = self.token_ids.placeholders
        if token.table in self.repeating_tables or token.num_links > len(ids):
            return ids[:1] * token.num_links
        return ids[: token.num_links]

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` takes back."""
        data = asdict(self)
        return {**data, "tokens": list(data["tokens"]), "repeating_tables": list(self.repeating_tables)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RouterConfig:
        """The configuration that `to_json` wrote.

        Raises:
            ModelError: a field is missing, unknown or of another type.
        """
        data = dict(data)
        if isinstance(data.get("tokens"), list):
            data["tokens"] = tuple(_record(RoutingToken, token, "tokens") for token in data["tokens"])
        if isinstance(data.get("token_ids"), Mapping):
            data["token_ids"] = _record(TokenIds, data["token_ids"], "token_ids")
        if isinstance(data.get("repeating_tables"), list):
            data["repeating_tables"] = tuple(data["repeating_tables"])
        return _record(cls, data, "router")

    def _vision_field(self, name: str) -> int:
        value = self.vision.get(name) if self.sees_through_backbone else getattr(self.vision_config(), name)
        if not isinstance(value, int):
            raise ModelError(f"vision {name} must be one number, got {value!r}")
        return value


def _can_name_a_table(name: str) -> bool:
    """Whether a module of torch can hold the table and its tensors' names can be read back."""
    from torch import nn

    return re.fullmatch(r"\w+", name) is not None and not hasattr(nn.ModuleDict(), name)


_FRAME = ("image_size", "patch_size")  # of `vision`, which a backbone does not know
_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "Tiling": (str,),
    "RegionPooling": (str,),
    "LinkKind": (str,),
    "Mapping[str, Any]": (Mapping,),
    "Mapping[str, int]": (Mapping,),
    "tuple[RoutingToken, ...]": (tuple,),
    "tuple[str, ...]": (tuple,),
    "TokenIds": (TokenIds,),
}


def _record(kind: type[Record], data: object, what: str) -> Record:
    """`kind(**data)` after a check of names and types."""
    if not isinstance(data, Mapping):
        raise ModelError(f"{what} configuration must be an object, got {type(data).__name__}")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    required = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    missing, unknown = sorted(required - data.keys()), sorted(data.keys() - known.keys())
    if missing or unknown:
        raise ModelError(
            f"{what} configuration does not fit: missing fields {missing}, unknown fields {unknown}; "
            f"was it written by another version?"
        )
    for name, value in data.items():
        types = _PLAIN[str(known[name].type)]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ModelError(f"{what} configuration: {name} must be {known[name].type}, got {value!r}")
    return kind(**data)


def _transformers_config(kind: Any, data: Mapping[str, Any], what: str) -> Any:
    """A configuration of transformers, which itself would take unknown names silently."""
    from huggingface_hub.errors import StrictDataclassError

    default = kind()
    unknown = sorted(name for name in data if not hasattr(default, name) and name != "rope_theta")
    if unknown:
        raise ModelError(f"{what} configuration has fields unknown to {kind.__name__}: {unknown}")
    try:
        return kind(**data)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{what} configuration does not fit {kind.__name__}: {reason}") from error
