"""Where a run's modules come from: fresh weights from configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from superlink.decoders.contract import DecoderConfig
from superlink.router.config import RouterConfig, TokenIds
from superlink.router.encoding import encode
from superlink.router.model import Router
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.train.module import JointModule


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshSystem:
    """Random weights. `tokenizer` runs in every worker and must give the same one each time."""

    router: RouterConfig
    decoders: tuple[DecoderConfig, ...]
    tokenizer: Callable[[], RouterTokenizer]

    def build(self) -> JointModule:
        tokenizer = self.tokenizer()
        router = Router(self.router)
        return JointModule(
            router=router,
            decoders={config.name: config.build(self.router.width) for config in self.decoders},
            encode=partial(encode, tokenizer=tokenizer, config=self.router, training=True),
        )

    def export(self, module: JointModule, folder: Path) -> None:
        raise NotImplementedError
