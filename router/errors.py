"""Every error this project raises on purpose.

SuperlinkError
├── InputError      a picture, an instruction, a prompt or an option that cannot be used
│   └── UsageError  arguments of a command that do not go together
├── ModelError      a model folder, a checkpoint or a configuration that does not fit
├── LinkError       routing tokens, link queries and link embeddings that do not match
├── DataError       a training or evaluation record that cannot be used; names file and record
├── DecoderError    a decoder could not produce an artifact for a call
├── TrainError      a training run that cannot go on; names the step
├── WorkflowError   a workflow that cannot run, found before it does (workflows/graph/errors.py)
├── StepError       a step of a workflow failed for one item (the same file)
├── BusyError       more work waits than is allowed; ask again later
└── LostError       what ran the request is gone (an actor, a node, a closed engine)

Messages are one line: what was expected, what came, what to do.
The command line prints that line and exits with 1, with 2 for a UsageError.
"""

from __future__ import annotations


class SuperlinkError(Exception):
    """Base of every error raised on purpose."""


class InputError(SuperlinkError, ValueError):
    """The caller's picture, instruction, prompt or option cannot be used."""


class UsageError(InputError):
    """Arguments of a command do not go together, or name what there is not."""


class ModelError(SuperlinkError):
    """A model folder, checkpoint or configuration does not fit."""


class LinkError(SuperlinkError):
    """Routing tokens, link queries and link embeddings do not match in number or width."""


class DataError(SuperlinkError):
    """A data record cannot be used; the message names the file and the record."""


class DecoderError(SuperlinkError):
    """A decoder could not produce an artifact for a call."""


class TrainError(SuperlinkError):
    """A training run cannot go on; the message names the step."""


class BusyError(SuperlinkError):
    """More work waits than the limit allows; nothing was started, so ask again later."""


class LostError(SuperlinkError):
    """What ran the request is gone: an actor, a node, or an engine that was closed."""
