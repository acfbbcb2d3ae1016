"""Parts that begin as other parts are: a painter that edits as one that paints, keypoints as a detector.

Training has taught one of two alike networks already, and the other one need not start from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from superlink.router.errors import InputError


def begin_as(module: nn.Module, pairs: Mapping[str, str]) -> set[str]:
    """Give parts of a module the weights that other parts have now.

    A convolution with more input channels than the other one has that one's weights in its first
    channels and zeros in the rest, so it does the same at first (Brooks et al. 2023, section 3.2).

    Args:
        module: holds both.
        pairs: name of a part or a parameter -> name of the one that it begins as, such as
            "decoders.instruct_pix2pix.unet" -> "decoders.stable_diffusion.unet".

    Returns:
        Names of the tensors that were given.

    Raises:
        InputError: there is no such part, or the two are not alike.
    """
    found = alike(module, pairs)
    with torch.no_grad():
        for own, other in found.values():
            if own.shape == other.shape:
                own.copy_(other)
            else:
                own.zero_()
                own[:, : other.shape[1]] = other
    return set(found)


def alike(module: nn.Module, pairs: Mapping[str, str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Every tensor that `begin_as` gives, with the one that it begins as; arguments and errors as there."""
    state = module.state_dict()
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for part, other in pairs.items():
        names = [name for name in state if name == part or name.startswith(f"{part}.")]
        if not names:
            raise InputError(f"{part!r} cannot begin as {other!r}: there is no part {part!r}")
        for name in names:
            like = other + name[len(part) :]
            if like not in state:
                raise InputError(f"{part!r} cannot begin as {other!r}: there is no {like!r}")
            if not _fits(state[name], state[like]):
                raise InputError(
                    f"{part!r} cannot begin as {other!r}: {name!r} has shape {tuple(state[name].shape)}, "
                    f"{like!r} {tuple(state[like].shape)}"
                )
            found[name] = (state[name], state[like])
    return found


def _fits(own: Tensor, other: Tensor) -> bool:
    if own.shape == other.shape:
        return True
    # Convolutions alone may have more input channels, their second axis.
    return (
        own.ndim == other.ndim == 4
        and own.shape[1] > other.shape[1]
        and (own.shape[0], *own.shape[2:]) == (other.shape[0], *other.shape[2:])
    )
