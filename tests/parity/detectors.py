"""A Grounding DINO with the recorded sizes of a case, and its recorded inputs, targets and draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superlink.decoders.grounding_dino.config import GroundingDinoConfig
from superlink.decoders.grounding_dino.decoder import GroundingDinoDecoder
from superlink.decoders.grounding_dino.inputs import DetectionInputs
from superlink.decoders.grounding_dino.keymap import config_from_published, load_published, to_published
from superlink.decoders.grounding_dino.losses import Targets
from superlink.decoders.grounding_dino.noise import Noise
from superlink.decoders.grounding_dino.pyramid import Pyramid
from superlink.decoders.letterbox import round_up
from superlink.router.links import LinkBatch
from tests.parity.fixtures import Tensors, assert_loss


def recorded_config(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> GroundingDinoConfig:
    """The configuration of `meta.json`, with what the recording changed at run time."""
    config = config_from_published(data)
    return replace(
        config,
        dn_number=overrides.get("dn_number", config.dn_number),
        num_points=overrides.get("num_points", config.num_points),
        dn_label_noise=overrides.get("label_noise_ratio", config.dn_label_noise),
        dn_box_noise=overrides.get("box_noise_scale", config.dn_box_noise),
    )


def recorded_detector(
    data: Mapping[str, Any], overrides: Mapping[str, Any], weights: Tensors, *, prefix: str = ""
) -> GroundingDinoDecoder:
    decoder = recorded_config(data, overrides).build(data["l_hidden_size"])
    load_published(decoder, weights, prefix=prefix)
    return decoder.eval()


class RecordedNoise:
    """Gives out `rand.NN.*` in their order instead of drawing."""

    def __init__(self, tensors: Tensors, *, functions: Sequence[str] = ("",)) -> None:
        names = sorted(name for name in tensors if name.startswith("rand."))
        self._draws: Iterator[Tensor] = iter(
            [tensors[name] for name in names if any(function in name for function in functions)]
        )

    def uniform(self, owners: Tensor, *shape: int) -> Tensor:
        drawn = next(self._draws)
        assert drawn.shape == (len(owners), *shape), f"recorded {tuple(drawn.shape)}"
        return drawn

    coins = uniform

    def below(self, owners: Tensor, limits: Tensor) -> Tensor:
        """The reference draws below the most classes of the batch: a flipped label may be a padded class."""
        return self.uniform(owners).long()

    def exhausted(self) -> bool:
        return next(self._draws, None) is None


class RecordedEncoder(nn.Module):
    """Stands in for the encoder where its output was recorded."""

    def __init__(self, cells: Tensor, classes: Tensor) -> None:
        super().__init__()
        self.cells, self.classes = cells, classes

    def forward(self, pyramid: Pyramid, classes: Tensor, class_mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.cells, self.classes


def inputs_of(
    decoder: GroundingDinoDecoder,
    pixels: Tensor,
    valid: Tensor,
    targets: Targets | None = None,
    noise: Noise | None = None,
) -> DetectionInputs:
    return DetectionInputs(
        calls=(),
        routes=decoder.config.routes,
        letterboxes=(),
        pixels=pixels,
        valid=valid,
        targets=targets,
        noise=noise,
    )


def padded(pictures: Sequence[Tensor], multiple: int = 32) -> tuple[Tensor, Tensor]:
    """(3, h, w) pictures to one batch with sides a multiple of `multiple`, and its valid pixels."""
    height = round_up(max(one.shape[-2] for one in pictures), multiple)
    width = round_up(max(one.shape[-1] for one in pictures), multiple)
    frames = [F.pad(one, (0, width - one.shape[-1], 0, height - one.shape[-2])) for one in pictures]
    valid = torch.zeros(len(pictures), height, width, dtype=torch.bool)
    for row, one in enumerate(pictures):
        valid[row, : one.shape[-2], : one.shape[-1]] = True
    return torch.stack(frames), valid


def recorded_targets(
    tensors: Tensors,
    id2index: Sequence[Mapping[str, int]],
    frame: Sequence[int],
    *,
    name: str = "target_{}",
    masks: bool = True,
    empty: Sequence[int] = (),
) -> Targets:
    """Targets of the batch; those of the pictures in `empty` lose all their objects."""
    labels, boxes, maps = [], [], []
    for row, index in enumerate(id2index):
        one = name.format(row)
        keep = slice(0, 0) if row in empty else slice(None)
        ids = tensors[f"{one}.class_labels"][keep]
        labels.append(torch.tensor([index[str(int(label))] for label in ids], dtype=torch.long))
        boxes.append(tensors[f"{one}.boxes"][keep])
        own = tensors[f"{one}.mask_labels"][keep]
        height, width = own.shape[-2:]
        maps.append(F.pad(own, (0, frame[1] - width, 0, frame[0] - height)).bool() if masks else None)
    return Targets(labels=tuple(labels), boxes=tuple(boxes), masks=tuple(maps))


def links_of(queries: Tensor, mask: Tensor) -> LinkBatch:
    return LinkBatch(embeddings=queries, mask=mask)


def to_width(logits: Tensor, width: int) -> Tensor:
    """Columns up to the recorded `max_text_len`, -inf, as the reference pads them."""
    return F.pad(logits, (0, width - logits.shape[-1]), value=-torch.inf)


def weighted(decoder: GroundingDinoDecoder, terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([decoder.weights[name] * term for name, term in terms.items()]).sum()


def recorded_terms(expected: Tensors, prefix: str) -> dict[str, Tensor]:
    """Recorded loss terms under our names."""
    found = {}
    for name, value in expected.items():
        if name.startswith(f"{prefix}loss.loss_"):
            # Without any object the reference calls this one term differently.
            found[name.removeprefix(f"{prefix}loss.").replace("loss_class_dn", "loss_ce_dn")] = value
    return found


def check_terms(
    decoder: GroundingDinoDecoder, terms: Mapping[str, Tensor], expected: Tensors, prefix: str
) -> None:
    recorded = recorded_terms(expected, prefix)
    assert set(terms) == set(recorded)
    for name, value in recorded.items():
        try:
            assert_loss(terms[name], value)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    assert_loss(weighted(decoder, terms), expected[f"{prefix}loss"])


def check_gradients(found: Mapping[str, float | None], recorded: Mapping[str, float | None]) -> None:
    """Relative 1e-4, and the same parameters without gradient.

    A gradient that is zero in exact arithmetic (of a key's bias, say) is rounding noise in both
    runs, so below float32's resolution of the largest gradient nothing is compared.
    """
    floor = 2e-7 * max(value for value in recorded.values() if value is not None)
    for name, value in recorded.items():
        one = found[name]
        assert (one is None) == (value is None), f"{name}: gradient {one}, recorded {value}"
        if one is not None and value is not None:
            assert abs(one - value) <= 1e-4 * abs(value) + floor, f"{name}: {one}, recorded {value}"


def gradient_norms(decoder: GroundingDinoDecoder) -> dict[str, float | None]:
    """Norm of every gradient under the published names; None where there is none."""
    values = {name: parameter.detach().clone() for name, parameter in decoder.named_parameters()}
    with torch.no_grad():
        for parameter in decoder.parameters():
            # The key map moves weights; put the gradients in their place for a moment.
            nothing = torch.full_like(parameter, torch.nan)
            parameter.copy_(nothing if parameter.grad is None else parameter.grad)
        norms = {
            name: None if tensor.isnan().any() else float(tensor.norm())
            for name, tensor in to_published(decoder).items()
            if tensor.is_floating_point()
        }
        for name, parameter in decoder.named_parameters():
            parameter.copy_(values[name])
    return norms
