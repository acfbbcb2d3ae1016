"""How turns of a conversation are laid out for a language model."""

from __future__ import annotations

from dataclasses import dataclass

from superlink.router.errors import ModelError
from superlink.router.tokenizer import END, START


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """Fixed text around the turns; "<s>" and "</s>" in it are the start and end tokens.

    A conversation reads
    `opening, system, (user_start, pictures, prompts, words, user_end, answer, answer_end)*`.
    """

    name: str
    opening: str = ""
    system: str = ""  # where the conversation brings no system message
    system_end: str = ""
    user_start: str
    picture_end: str = ""
    user_end: str
    answer_start: str = ""  # goes with the answer's words, so the model writes it too
    answer_end: str = END


# Every turn ends with "</s>" and every question starts with "<s>": nothing that a person types
# can look like a change of turns, and it costs three positions a round.
PLAIN_CHAT = ChatTemplate(name="plain_chat", system_end="\n", user_start=START, user_end=END)

# The layout of Vicuna 1.1 (FastChat), on which VisionLLM v2 was trained.
VICUNA_V1 = ChatTemplate(
    name="vicuna_v1",
    opening=START,
    system="A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    system_end=" ",
    user_start="USER: ",
    picture_end="\n",
    user_end=" ASSISTANT:",
    answer_start=" ",
)

_TEMPLATES = (PLAIN_CHAT, VICUNA_V1)


def chat_template(name: str) -> ChatTemplate:
    """The template of that name.

    Raises:
        ModelError: there is none.
    """
    for template in _TEMPLATES:
        if template.name == name:
            return template
    known = ", ".join(repr(template.name) for template in _TEMPLATES)
    raise ModelError(f"no chat template {name!r}; there are {known}")
