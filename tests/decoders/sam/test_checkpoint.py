"""Published checkpoints load, and the numbers are those of transformers' own model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import SamModel

from superlink.decoders.sam import SamDecoder, load_checkpoint
from superlink.decoders.sam.keymap import load_transformers, to_original, to_transformers
from superlink.decoders.sam.model import PromptBatch
from superlink.router.errors import ModelError
from tests.decoders.sam.segmenters import LINK_DIM, built, small

CONFIG = small(decoder_heads=8, iou_layers=4)  # eight heads, as every published checkpoint has


@pytest.fixture(scope="module")
def library() -> Any:
    """transformers' model with random weights everywhere, its frequencies as wide as the published ones."""
    torch.manual_seed(0)
    model = SamModel(CONFIG.layer_config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def assert_same_numbers(decoder: SamDecoder, library: Any) -> None:
    """With two points and a box for each of two masks, and a mask prompt."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, 64, 64, generator=generator)
    points = torch.rand(1, 2, 2, 2, generator=generator) * 64
    inside = torch.tensor([[[1, 0], [1, 1]]])
    corners = torch.tensor([[[3.0, 4.0, 30.0, 31.0], [20.0, 8.0, 60.0, 62.0]]])
    rough = torch.randn(1, 1, 32, 32, generator=generator)
    with torch.no_grad():
        expected = library(
            pixel_values=pixels,
            input_points=points,
            input_labels=inside,
            input_boxes=corners,
            input_masks=rough,
            multimask_output=True,
        )
        features = decoder.model.encode(pixels).expand(2, -1, -1, -1)
        sparse, dense = decoder.model.embed(
            PromptBatch(
                size=2,
                points=points[0],
                inside=inside[0],
                boxes=corners[0],
                masks=rough.expand(2, -1, -1, -1),
            )
        )
        masks, fits = decoder.model.decode(features, sparse, dense, multimask=True)
    torch.testing.assert_close(masks, expected.pred_masks[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fits, expected.iou_scores[0], atol=1e-5, rtol=1e-5)


def test_a_folder_that_transformers_wrote_loads_with_its_sizes(tmp_path: Path, library: Any) -> None:
    library.save_pretrained(tmp_path)
    decoder = load_checkpoint(tmp_path, link_dim=LINK_DIM)
    assert decoder.config.vision_width == CONFIG.vision_width
    assert decoder.config.global_layers == CONFIG.global_layers
    assert_same_numbers(decoder, library)


def test_shards_of_a_folder_load_together(tmp_path: Path, library: Any) -> None:
    library.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same_numbers(load_checkpoint(tmp_path, link_dim=LINK_DIM), library)


@pytest.mark.parametrize("layout", ["original.pth", "original.safetensors", "transformers.safetensors"])
def test_a_file_of_either_layout_loads_with_the_sizes_that_its_shapes_tell(
    tmp_path: Path, library: Any, layout: str
) -> None:
    source = CONFIG.build(LINK_DIM)
    load_transformers(source, library.state_dict())
    state = to_original(source) if layout.startswith("original") else to_transformers(source)
    state = {name: tensor.clone() for name, tensor in state.items()}
    if layout.endswith("pth"):
        torch.save(state, tmp_path / layout)
    else:
        save_file(state, tmp_path / layout)
    decoder = load_checkpoint(tmp_path / layout, link_dim=LINK_DIM)
    assert decoder.config.iou_layers == 4
    assert_same_numbers(decoder, library)


def test_weights_go_back_to_transformers_strictly(library: Any) -> None:
    decoder = built(CONFIG)
    model = SamModel(CONFIG.layer_config()).eval()
    model.load_state_dict(to_transformers(decoder))
    assert_same_numbers(decoder, model)


def test_one_copy_of_the_frequencies_is_enough_but_two_must_be_equal() -> None:
    decoder, state = built(CONFIG), to_transformers(built(CONFIG, seed=1))
    again = "shared_image_embedding.positional_embedding"
    name = "prompt_encoder.shared_embedding.positional_embedding"
    load_transformers(decoder, {key: value for key, value in state.items() if key != name})
    assert torch.equal(decoder.model.state_dict()[name], state[name])
    load_transformers(decoder, {key: value for key, value in state.items() if key != again})
    with pytest.raises(ModelError, match="differs from its copy"):
        load_transformers(decoder, state | {again: state[again] + 1})


def test_the_published_sizes_are_the_defaults() -> None:
    from superlink.decoders.sam import SamConfig
    from superlink.decoders.sam.keymap import config_from_transformers

    layers = SamConfig().layer_config()
    assert config_from_transformers(layers.to_dict()) == SamConfig(vision_ffn_dim=4 * 1280)


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "sam.pth", link_dim=LINK_DIM)
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_checkpoint(tmp_path / "text.pth", link_dim=LINK_DIM)
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_checkpoint(tmp_path / "text.safetensors", link_dim=LINK_DIM)
    with (tmp_path / "code.pth").open("wb") as file:
        pickle.dump({"image_encoder.pos_embed": Path("anything that is no tensor")}, file, protocol=2)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_checkpoint(tmp_path / "code.pth", link_dim=LINK_DIM)
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 8, 8, 4)}, tmp_path / "part.pth")
    with pytest.raises(ModelError, match=r"no fitting 'image_encoder\.patch_embed"):
        load_checkpoint(tmp_path / "part.pth", link_dim=LINK_DIM)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no state dict"):
        load_checkpoint(tmp_path / "list.pth", link_dim=LINK_DIM)
    with pytest.raises(ModelError, match=r"config\.json|no checkpoint"):
        load_checkpoint(tmp_path, link_dim=LINK_DIM)
