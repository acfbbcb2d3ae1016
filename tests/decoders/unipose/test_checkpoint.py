"""X-Pose's own files load without its text side, and with fresh projections of links."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from superlink.decoders.grounding_dino.denoising import Denoising
from superlink.decoders.unipose import UniPoseConfig, UniPoseDecoder, load_checkpoint
from superlink.decoders.unipose.keymap import load_xpose, to_published
from superlink.router.errors import ModelError
from tests.decoders.grounding_dino.detectors import LINK_DIM, SWIN
from tests.decoders.unipose.poses import answers, call_of, small

STAGES = SWIN | {"out_features": ["stage2", "stage3", "stage4"]}
CONFIG = replace(
    small(detector={"backbone": STAGES, "class_prior": None, "fusion_scale": 1e-4}), max_keypoints=20
)
# CLIP's own names, a few of its 302, and all others that X-Pose has beside the network: `UniPose` in
# models/UniPose/unipose.py of IDEA-Research/X-Pose. Sizes are ours.
CLIP = ("positional_embedding", "visual.proj", "transformer.resblocks.0.attn.in_proj_weight", "ln_final.bias")
BESIDE = {
    "label_enc.weight": (2001, 32),
    **{
        f"{head}.layers.{layer}.weight": (32, 32)
        for head in ("projection", "projection_kpt")
        for layer in range(3)
    },
    **{
        f"{head}.layers.{layer}.bias": (32,)
        for head in ("projection", "projection_kpt")
        for layer in range(3)
    },
    "pos_proj.weight": (768, 32),
    "pos_proj.bias": (768,),
    "padding.weight": (1, 768),
}


def built(seed: int) -> UniPoseDecoder:
    torch.manual_seed(seed)
    decoder = CONFIG.build(LINK_DIM).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return decoder


def xpose_state(decoder: UniPoseDecoder) -> dict[str, Tensor]:
    """The decoder's weights in a file of X-Pose."""
    own = {
        name.replace(".gam_", ".gamma_"): tensor.clone()
        for name, tensor in to_published(decoder).items()
        if not name.startswith(("projection_llava.", "projection_kpt_llava."))
    }
    own |= {f"clip_model.{name}": torch.ones(2, dtype=torch.float16) for name in CLIP}
    return own | {name: torch.ones(shape) for name, shape in BESIDE.items()}


def check_same_but_fresh_projections(decoder: UniPoseDecoder, source: UniPoseDecoder) -> None:
    fresh, given = decoder.state_dict(), source.state_dict()
    for name in given:
        assert torch.equal(fresh[name], given[name]) != name.startswith("patch2"), name
    # With the same projections both are one decoder.
    decoder.patch2query.load_state_dict(source.patch2query.state_dict())
    decoder.patch2keypoint.load_state_dict(source.patch2keypoint.state_dict())
    calls = [call_of(CONFIG, threshold=0.0)]
    (found,), (expected,) = answers(decoder, calls), answers(source, calls)
    assert len(expected) > 0
    assert (found.xyv == expected.xyv).all()
    assert (found.scores == expected.scores).all()


@pytest.mark.parametrize("layout", ["model.pth", "distributed.pth", "weights.safetensors"])
def test_a_file_of_x_pose_loads_all_but_the_projections_of_links(tmp_path: Path, layout: str) -> None:
    source = built(1)
    state, path = xpose_state(source), tmp_path / layout
    if layout == "model.pth":
        # With what its trainer saved beside the weights.
        torch.save({"model": state, "epoch": 3, "args": argparse.Namespace(lr=1e-4)}, path)
    elif layout == "distributed.pth":
        torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        save_file(state, path)
    torch.manual_seed(2)
    decoder = load_checkpoint(path, link_dim=LINK_DIM, config=CONFIG)
    assert not decoder.training
    check_same_but_fresh_projections(decoder, source)


def test_a_file_under_the_names_of_visionllm_loads_with_its_projections(tmp_path: Path) -> None:
    source = built(1)
    save_file(
        {name: tensor.clone() for name, tensor in to_published(source).items()}, tmp_path / "a.safetensors"
    )
    decoder = load_checkpoint(tmp_path / "a.safetensors", link_dim=LINK_DIM, config=CONFIG)
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


def without(state: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


def test_other_names_that_are_missing_or_unknown_are_named() -> None:
    decoder, state = built(2), xpose_state(built(1))
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    part = without(state, "transformer.decoder.hw.weight", "transformer.encoder.fusion_layers.0.gamma_v")
    with pytest.raises(
        ModelError, match=r"missing \['transformer.decoder.hw.weight', .*fusion_layers.0.gamma_v'\]"
    ):
        load_xpose(decoder, part)
    for surplus in ("bert.embeddings.weight", "padding_mask", "projection_llava.layers.0.weight"):
        with pytest.raises(ModelError, match=rf"unknown \['{surplus}'\]"):
            load_xpose(decoder, state | {surplus: torch.zeros(1)})
    with pytest.raises(ModelError, match=r"transformer.level_embed: \(1, 2\), not"):
        load_xpose(decoder, state | {"transformer.level_embed": torch.zeros(1, 2)})
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_damaged_file_of_visionllm_does_not_pass_for_one_of_x_pose(tmp_path: Path) -> None:
    state = to_published(built(1))
    gone = [name for name in state if name.startswith("projection_llava.")]
    torch.save(without(state, *gone), tmp_path / "part.pth")
    with pytest.raises(ModelError, match=r"missing \['projection_llava"):
        load_checkpoint(tmp_path / "part.pth", link_dim=LINK_DIM, config=CONFIG)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "unipose.pth", link_dim=LINK_DIM, config=CONFIG)
    torch.save({"model": {"epoch": 3}}, tmp_path / "numbers.pth")
    with pytest.raises(ModelError, match="no state dict"):
        load_checkpoint(tmp_path / "numbers.pth", link_dim=LINK_DIM, config=CONFIG)
    torch.save({"model": {}, "code": Denoising}, tmp_path / "code.pth")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_checkpoint(tmp_path / "code.pth", link_dim=LINK_DIM, config=CONFIG)


def test_the_published_sizes_have_as_many_entries_as_x_poses_own_model() -> None:
    """A user of X-Pose counted 1165 in its model; 302 of them are those of CLIP ViT-B/32."""
    with torch.device("meta"):
        decoder = UniPoseConfig().build(8)
    network = [name for name in to_published(decoder) if "_llava." not in name]
    assert len(network) + len(BESIDE) == 1165 - 302
