from __future__ import annotations

from pathlib import Path

import torch

from superlink.router.checkpoint import load_router
from superlink.workflows.train.collective import Alone
from superlink.workflows.train.config import Lora
from superlink.workflows.train.loop import TrainLoop
from superlink.workflows.train.lora import add_adapters, merge_adapters
from tests.workflows.train.tiny_system import toy_config

LORA = Lora(r=4, alpha=8, dropout=0.0, targets=("q_proj", "v_proj"))


def test_only_adapters_and_what_is_named_are_trained(tmp_path: Path) -> None:
    config = toy_config(lora=LORA, trainable=("decoders.counter.*",))
    loop = TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu"))
    before = {name: p.detach().clone() for name, p in loop.module.named_parameters()}
    stage = config.stages[0]
    loop._stage(0, 0, lambda: loop.step == stage.steps - 1)
    changed = {name for name, p in loop.module.named_parameters() if not torch.equal(p, before[name])}
    adapters = {name for name in before if ".lora_" in name}
    assert len(adapters) == 2 * 2 * 2  # layers, targets, A and B
    used = {name for name in before if name.startswith("decoders.counter.") and "unused" not in name}
    assert changed == adapters | used


def test_globs_of_everything_leave_the_weights_beside_adapters_alone(tmp_path: Path) -> None:
    config = toy_config(lora=LORA, trainable=("*",))
    loop = TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu"))
    before = {name: p.detach().clone() for name, p in loop.module.named_parameters()}
    loop._stage(0, 0, lambda: False)
    bases = {name for name in before if ".base_layer." in name}
    assert bases
    assert all(torch.equal(p, before[name]) for name, p in loop.module.named_parameters() if name in bases)


def test_merged_weights_have_plain_names_and_give_the_same_links() -> None:
    config = toy_config()
    torch.manual_seed(0)
    module = config.system.build().eval()
    names = list(module.state_dict())
    sample = config.stages[0].mixture[0].open()[2]
    batch = module.prepare([sample])
    plain = module.router(batch.rows).hidden
    adapters = add_adapters(module, LORA)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    module.eval()
    adapted = module.router(batch.rows).hidden
    assert float((adapted - plain).detach().abs().max()) > 1e-3
    merge_adapters(adapters)
    assert list(module.state_dict()) == names
    torch.testing.assert_close(module.router(batch.rows).hidden, adapted, rtol=1e-4, atol=1e-5)


def test_a_run_with_adapters_resumes_and_exports_plain_weights(tmp_path: Path) -> None:
    config = toy_config(lora=LORA, checkpoint_every=1)
    loop = TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu"))
    assert loop.run(lambda: loop.step == 2) is False
    again = TrainLoop(config, tmp_path, collective=Alone(), device=torch.device("cpu"))
    assert again.step == 3
    assert again.run()
    exported = load_router(tmp_path / "model" / "router").state_dict()
    torch.testing.assert_close(exported, again.module.router.state_dict(), rtol=0, atol=0)
    assert list(exported) == list(config.system.build().router.state_dict())
