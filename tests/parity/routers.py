"""A router with the recorded sizes of a case."""

from __future__ import annotations

from typing import Any

from superlink.router.config import RouterConfig, TokenIds
from superlink.router.keymap import load_published, split_published
from superlink.router.model import Router
from superlink.router.tokens import RoutingToken
from tests.parity.fixtures import Case, Tensors


def recorded_config(case: Case) -> RouterConfig:
    """The router configuration that `meta.json` of a whole-model case describes."""
    data: dict[str, Any] = case.config
    perception, generation = data["num_embs"], data["num_embs_gen"]
    ids = case.meta["special_token_ids"]
    base = ("<unk>", "<s>", "</s>")
    tokens = tuple(
        RoutingToken(text=text, decoder=decoder, table=table, num_links=length)
        for text, decoder, table, length in (
            ("[DET]", "grounding_dino", "det", perception),
            ("[GRD]", "grounding_dino", "det", perception),
            ("[SEG]", "grounding_dino", "det", perception),
            ("[POSE]", "unipose", "pose", perception),
            ("[GEN]", "stable_diffusion", "gen", generation),
            ("[EDIT]", "instruct_pix2pix", "edit", generation),
        )
    )
    return RouterConfig(
        vision=data["vis_encoder_config"],
        llm=data["llm_config"],
        tokens=tokens,
        token_ids=TokenIds(
            pad=ids["<unk>"],
            bos=ids["<s>"],
            eos=ids["</s>"],
            special={text: index for text, index in ids.items() if text not in base},
        ),
        bridge={"internvl": "internvl_mlp"}.get(data["vl_bridge_type"], data["vl_bridge_type"]),
        vision_layer=data["vis_output_layer"],
        pixel_shuffle=data["use_pixelshuffle"],
        region_encoder=data["use_region_encoder"],
    )


def recorded_router(case: Case, weights: Tensors | None = None) -> Router:
    """A router in eval mode with the recorded weights, strictly loaded."""
    router = Router(recorded_config(case))
    load_published(router, split_published(weights or case.weights())[0])
    return router.eval()
