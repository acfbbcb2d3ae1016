"""What a tool tells a language model about a turn: exact, short, and never pixels.

Ids come first, since they are what the next call refers to; then items with their numbers, best first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from superlink.agents.sentences import bare
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture, Text

MOST_ITEMS = 20  # of one artifact; the others are counted
MOST_CHARACTERS = 2000  # of the words of a reply
MOST_POINTS = 17  # of one instance


def describe(
    turn: Turn, *, picture: str = "", makes: type[Artifact] | None = None, keypoints: Sequence[str] = ()
) -> str:
    """The turn in a few lines.

    Args:
        turn: what a question gave.
        picture: id of the picture that it is about.
        makes: the kind of artifact that was hoped for; None = words.
        keypoints: names that were asked for; those that nobody looked for are told.
    """
    lines = [_artifact(one, picture) for one in turn.artifacts]
    looked_for = dict.fromkeys(
        name for one in turn.artifacts if isinstance(one, Keypoints) for name in one.keypoint_names
    )
    known = {name.lower() for name in looked_for}
    if known and (others := [name for name in keypoints if bare(name).lower() not in known]):
        lines.append(f"not looked for: {', '.join(others)}; what was: {', '.join(looked_for)}")
    lines += [f"failed: {one.call_id.partition('.')[0]} ({one.kind}): {one.error}" for one in turn.failures]
    if makes is not None and not turn.failures and not any(isinstance(one, makes) for one in turn.artifacts):
        lines.append(f"no {makes.__name__.lower()} came back; the system answered in words")
    if turn.text and (makes is None or not any(isinstance(one, makes) for one in turn.artifacts)):
        lines.append(f"answer: {_clipped(turn.text)}")
    return "\n".join(lines) or "nothing came back"


def counted(artifact: Boxes | Masks | Keypoints) -> str:
    """ "2 x red circle, 0 x star": how many there are of every name, those without any included."""
    found = Counter(artifact.phrases)
    names = dict.fromkeys([*artifact.names, *found])
    return ", ".join(f"{found[name]} x {name}" for name in names) or "nothing"


def _artifact(artifact: Artifact, picture: str) -> str:
    name = artifact.origin.id
    if isinstance(artifact, Text):
        return f"{name}: {_clipped(artifact.text)}"
    if isinstance(artifact, Picture):
        height, width = artifact.pixels.shape[:2]
        return f"{name}: a new picture, {width} x {height} pixels"
    height, width = artifact.size
    place = f" on {picture} ({width} x {height} pixels)" if picture else f" ({width} x {height} pixels)"
    lines = [f"{name}: {counted(artifact)}{place}" + (", boxes as x0 y0 x1 y1" if len(artifact) else "")]
    lines += [f"[{row}] {_item(artifact, row)}" for row in range(min(len(artifact), MOST_ITEMS))]
    if len(artifact) > MOST_ITEMS:
        lines.append(f"and {len(artifact) - MOST_ITEMS} more, [{MOST_ITEMS}] to [{len(artifact) - 1}]")
    return "\n".join(lines)


def _item(artifact: Boxes | Masks | Keypoints, row: int) -> str:
    text = f"{artifact.phrases[row]} {artifact.scores[row]:.2f}: {_numbers(artifact.xyxy[row].tolist())}"
    if isinstance(artifact, Masks):
        return f"{text}, area {int(np.count_nonzero(artifact.masks[row])):,}"
    if isinstance(artifact, Keypoints):
        shown = np.flatnonzero(artifact.xyv[row, :, 2] > 0)
        points = [
            f"{artifact.keypoint_names[point]} {_numbers(artifact.xyv[row, point, :2].tolist())}"
            for point in shown[:MOST_POINTS]
        ]
        more = f" and {len(shown) - MOST_POINTS} more" if len(shown) > MOST_POINTS else ""
        return f"{text}; {', '.join(points) or 'no keypoints'}{more}"
    return text


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{round(value, 1):g}" for value in values)


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
