"""Options of single decoders: what a question asks of one of them in place of its configuration.

Names are checked before anything runs; values are the business of the decoder that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from superlink.router.errors import InputError

if TYPE_CHECKING:
    from superlink.decoders.contract import DecoderConfig

# By the name of a decoder: {"stable_diffusion": {"steps": 20}}.
DecoderOptions = Mapping[str, Mapping[str, object]]


def checked_options(
    options: DecoderOptions | None, decoders: Sequence[DecoderConfig]
) -> dict[str, dict[str, object]]:
    """A copy of `options`, when all of them are known.

    Raises:
        InputError: no such decoder, or it has no such option.
    """
    if options is not None and not isinstance(options, Mapping):
        raise InputError(
            f'options are given by decoder, as in {{"stable_diffusion": {{"steps": 20}}}}, got {options!r}'
        )
    known = {config.name: config.options for config in decoders}
    checked: dict[str, dict[str, object]] = {}
    for name, own in (options or {}).items():
        if name not in known:
            there = ", ".join(known) or "none"
            raise InputError(f"options for {name!r}, which is no decoder of this model; there are {there}")
        if not isinstance(own, Mapping):
            raise InputError(
                f'options of {name!r} are given by their names, as in {{"steps": 20}}, got {own!r}'
            )
        unknown = [option for option in own if option not in known[name]]
        if unknown:
            raise InputError(f"{name!r} has no option {unknown[0]!r}; {_possible(known[name])}")
        checked[name] = dict(own)
    return checked


def shared_options(given: Mapping[str, object], decoders: Sequence[DecoderConfig]) -> DecoderOptions:
    """Options said once, for every decoder that has them.

    Args:
        given: by the name of the option.
        decoders: of the model.

    Raises:
        InputError: no decoder has one of them.
    """
    for option in given:
        if not any(option in config.options for config in decoders):
            every = tuple(dict.fromkeys(name for config in decoders for name in config.options))
            raise InputError(f"no decoder of this model has the option {option!r}; {_possible(every)}")
    wanted = {
        config.name: {option: value for option, value in given.items() if option in config.options}
        for config in decoders
    }
    return {name: own for name, own in wanted.items() if own}


def _possible(names: Sequence[str]) -> str:
    return f"possible are {', '.join(names)}" if names else "there are no options"
