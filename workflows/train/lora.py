"""Low-rank adapters of the router's language model, through peft."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superlink.workflows.train.config import Lora
from superlink.workflows.train.module import JointModule

if TYPE_CHECKING:
    from peft import LoraModel


def add_adapters(module: JointModule, lora: Lora) -> LoraModel:
    """Put adapters beside the targeted linear layers of the language model, in place.

    Parameters keep their names except the targeted ones, which become `<name>.base_layer.weight`
    beside `<name>.lora_A.default.weight` and `<name>.lora_B.default.weight`.
    """
    from peft import LoraConfig, LoraModel

    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets)
    )
    return LoraModel(module.router.llm, config, "default")


def merge_adapters(adapters: LoraModel) -> None:
    """Add the adapters' products to their base weights and take the adapters out, in place."""
    adapters.merge_and_unload(safe_merge=True)
