"""Which system a workflow asks: one that was handed over, or one model loaded once for all workflows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    from superlink.agents.system import System

    SystemLike: TypeAlias = System | str | os.PathLike[str] | Callable[[], System]

_loaded: dict[str, System] = {}
_loading = threading.Lock()


def system_for(wanted: SystemLike) -> System:
    """The system that is meant; one of a name or folder is loaded when it is first asked for, and kept.

    Raises:
        ModelError: no such model.
    """
    if callable(wanted):
        with _loading:
            return wanted()
    if not isinstance(wanted, str | os.PathLike):
        return wanted
    from superlink.agents.system import load

    name = os.fspath(wanted)
    with _loading:
        if name not in _loaded:
            _loaded[name] = load(name)
        return _loaded[name]
