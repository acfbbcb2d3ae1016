"""Whether the labels of a target stand for the links of its call."""

from __future__ import annotations

from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.decoders.contract import Call
from superlink.router.errors import DataError


def check_labels(call: Call, target: Boxes | Masks | Keypoints, *, what: str = "links") -> None:
    """Label k is link k of the call's first token.

    Names may be spelled otherwise than phrases ("region1" and "dog"), but not be the same in another order.

    Raises:
        DataError: a label without link, or names that are the phrases of other links.
    """
    phrases = call.names
    if not len(target):
        return
    if (least := int(target.labels.min())) < 0:
        raise DataError(f"call {call.id!r}: a target is labelled {least}; labels count the links from 0")
    if (most := int(target.labels.max())) >= len(phrases):
        raise DataError(f"call {call.id!r} has {len(phrases)} {what}, but a target is labelled {most}")
    if sorted(target.names) == sorted(phrases):
        for label in sorted(set(target.labels.tolist())):
            if target.names[label] != phrases[label]:
                raise DataError(
                    f"call {call.id!r}: label {label} is {target.names[label]!r} in the target, but link "
                    f"{label} is {phrases[label]!r}; bring the names {list(target.names)} into the order of "
                    f"the links"
                )
