"""Loading weights that must fit exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from superlink.router.errors import ModelError


def _same(name: str) -> str:
    return name


def load_exactly(
    module: nn.Module, found: Mapping[str, Tensor], what: str, *, published: Callable[[str], str] = _same
) -> None:
    """Copy `found` into a module whose tensors have exactly these names and shapes.

    Args:
        what: whose configuration the weights should fit, for the message.
        published: the name under which a file has a tensor of the module, for the message.

    Raises:
        ModelError: tensors are missing, unknown or of another shape; all are named.
    """
    expected = module.state_dict()
    missing = sorted(published(name) for name in expected.keys() - found.keys())
    unknown = sorted(published(name) for name in found.keys() - expected.keys())
    shapes = [
        f"{published(name)}: {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
        for name in sorted(found.keys() & expected.keys())
        if found[name].shape != expected[name].shape
    ]
    if missing or unknown or shapes:
        raise misfit(what, missing, unknown, shapes)
    module.load_state_dict(dict(found))


def misfit(what: str, missing: list[str], unknown: list[str], shapes: list[str]) -> ModelError:
    """The error that names everything that does not fit."""
    return ModelError(
        f"these weights do not fit the configuration of {what}: missing {missing or 'nothing'}, "
        f"unknown {unknown or 'nothing'}, shapes {shapes or 'all right'}"
    )
