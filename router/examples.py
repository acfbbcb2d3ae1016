"""In-context examples: pictures with what is meant on each, shown before a question is asked.

Every example is a round of its own, with one picture and one region: a question then speaks of "the
same kind". The encoder names regions by their number, so those of a question follow those of its examples.

Source: Wu et al. 2024 (VisionLLM v2), multimodal in-context data; there the pictures share one turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from superlink.router.errors import InputError
from superlink.router.messages import Conversation, ImageArray, Message, Prompt
from superlink.router.prompts import prompt_mask

# Said as in training: one of the wordings of `workflows/data/instructions/templates/in_context.txt`.
SHOWN = "This is an example."
NOTED = "I see."  # the answer to it


def example_rounds(examples: Sequence[tuple[ImageArray, Prompt]]) -> Conversation:
    """The rounds that show examples.

    Args:
        examples: pictures, and on each a mask, a box, a scribble or a click on what is meant.

    Raises:
        InputError: a prompt does not lie on its picture, or a mask has another size.
    """
    messages: list[Message] = []
    for number, (image, prompt) in enumerate(examples, start=1):
        try:
            prompt_mask(prompt, (image.shape[0], image.shape[1]))
        except InputError as error:
            raise InputError(f"example {number}: {error}") from error
        messages += [
            Message(role="user", text=SHOWN, images=(image,), prompts=(prompt,)),
            Message(role="assistant", text=NOTED),
        ]
    return tuple(messages)
