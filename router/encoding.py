"""Conversations to rows of ids: pictures, prompts, words and link placeholders in their places.

A group (a routing token and its placeholders) and a picture are never cut. Only the answers are
learned: their words, their routing tokens, the token after each group, and the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from superlink.router.batch import RouterBatch
from superlink.router.config import RouterConfig
from superlink.router.errors import InputError
from superlink.router.messages import Conversation, ImageArray, Message
from superlink.router.prompts import prompt_mask
from superlink.router.templates import ChatTemplate, chat_template
from superlink.router.tile_cache import TileCache
from superlink.router.tokenizer import END, START, RouterTokenizer, answer_markup
from superlink.router.tokens import IMAGE_PATCH, REGION, REGION_END, REGION_START
from superlink.router.vision import region_of, tiles_of

NOT_LEARNED = -100


def encode(
    conversations: Conversation | Sequence[Conversation],
    tokenizer: RouterTokenizer,
    config: RouterConfig,
    *,
    training: bool,
    limit: int | None = None,
    tiles: TileCache | None = None,
) -> RouterBatch:
    """One batch of conversations, right-padded.

    A conversation that ends with the user is left open for the answer. One that is too long loses
    its oldest rounds; their last picture stays.

    Args:
        training: every conversation must end with the assistant, and labels are made.
        limit: most positions of a row; the language model's maximum by default.
        tiles: where those of earlier pictures are kept.

    Raises:
        InputError: turns out of order, nothing asked, a prompt outside its picture, or a last
            round that does not fit into `limit` positions.
    """
    if any(isinstance(item, Message) for item in conversations):
        conversations = [_conversation(conversations)]
    encoder = _Encoder(tokenizer, config, limit or config.max_positions, tiles)
    rows = [encoder.row(_conversation(conversation), training) for conversation in conversations]
    if not rows:
        raise InputError("a batch needs at least one conversation, got none")
    return _padded(rows, config, training)


@dataclass(slots=True)
class _Row:
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    tiles: list[Tensor] = field(default_factory=list)
    tile_counts: list[int] = field(default_factory=list)
    regions: list[Tensor] = field(default_factory=list)
    region_images: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, learned: bool = False) -> None:
        self.ids.extend(ids)
        self.labels.extend(ids if learned else [NOT_LEARNED] * len(ids))


@dataclass(frozen=True, slots=True)
class _Round:
    """A question and its answer."""

    user: Message
    answer: Message | None
    picture: ImageArray | None  # the one that prompts point at
    first_region: int  # regions are numbered through the whole conversation


class _Encoder:
    def __init__(
        self, tokenizer: RouterTokenizer, config: RouterConfig, limit: int, tiles: TileCache | None
    ) -> None:
        self._tokenizer = tokenizer
        self._tiles = tiles
        self._config = config
        self._limit = limit
        self._template: ChatTemplate = chat_template(config.template)
        self._markup = answer_markup(token.text for token in config.tokens)
        self._groups = {index: config.placeholders(token) for index, token in config.routing_ids.items()}

    def row(self, conversation: Conversation, training: bool) -> _Row:
        system, rounds = _rounds(conversation)
        if training and rounds[-1].answer is None:
            raise InputError("a conversation to learn from must end with the assistant's answer")
        for first in range(len(rounds)):
            row = self._joined(system, rounds, first)
            if len(row.ids) <= self._limit:
                return row
        raise InputError(
            f"the last round needs {len(row.ids)} positions, the router takes {self._limit}; "
            f"use fewer words or fewer pictures"
        )

    def _joined(self, system: str, rounds: Sequence[_Round], first: int) -> _Row:
        """All rounds from `first` on; a picture that they still speak of comes along."""
        template, row = self._template, _Row()
        self._fixed(row, template.opening)
        system = system or template.system
        if system:
            row.add(self._tokenizer.encode(system))
            self._fixed(row, template.system_end)
        for index, turn in enumerate(rounds[first:]):
            self._fixed(row, template.user_start)
            images = turn.user.images
            if index == 0 and first > 0 and not images and turn.picture is not None:
                images = (turn.picture,)
            for image in images:
                self._picture(row, image)
            self._question(row, turn)
            self._fixed(row, template.user_end)
            if turn.answer is not None:
                self._answer(row, turn.answer.text)
        return row

    def _fixed(self, row: _Row, text: str) -> None:
        row.add(self._tokenizer.encode(text, markup=(START, END)))

    def _picture(self, row: _Row, image: ImageArray) -> None:
        tiles = tiles_of(image, self._config) if self._tiles is None else self._tiles.tiles_of(image)
        row.tiles.append(tiles)
        row.tile_counts.append(len(tiles))
        row.add([self._tokenizer.id_of(IMAGE_PATCH)] * (len(tiles) * self._config.tokens_per_tile))
        self._fixed(row, self._template.picture_end)

    def _question(self, row: _Row, turn: _Round) -> None:
        tokenizer = self._tokenizer
        for number, prompt in enumerate(turn.user.prompts, start=turn.first_region):
            if turn.picture is None:
                raise InputError("a visual prompt needs a picture, got a conversation without any")
            mask = prompt_mask(prompt, turn.picture.shape[:2])
            row.regions.append(region_of(mask, self._config))
            row.region_images.append(len(row.tile_counts) - 1)
            separator = ", " if number > turn.first_region else ""
            row.add(tokenizer.encode(separator))
            row.add([tokenizer.id_of(REGION_START), *tokenizer.encode(f"region{number}")])
            row.add([tokenizer.id_of(REGION), tokenizer.id_of(REGION_END)])
        words = turn.user.text.strip()
        if self._config.fold_case:
            words = words.lower()
        inside = turn.user.prompts or self._config.fold_case
        row.add(tokenizer.encode(f" {words}" if inside and words else words))

    def _answer(self, row: _Row, text: str) -> None:
        for index in self._tokenizer.encode(self._template.answer_start + text, markup=self._markup):
            row.add([index], learned=True)
            row.add(self._groups.get(index, ()))
        row.add([self._tokenizer.id_of(self._template.answer_end)], learned=True)


def _conversation(conversation: object) -> Conversation:
    if not isinstance(conversation, tuple) or not all(isinstance(item, Message) for item in conversation):
        raise InputError(f"a conversation is a tuple of messages, got {type(conversation).__name__}")
    return conversation


def _rounds(conversation: Conversation) -> tuple[str, list[_Round]]:
    """The system's words, and questions paired with their answers."""
    system = ""
    if conversation and conversation[0].role == "system":
        system, conversation = conversation[0].text, conversation[1:]
    if not conversation:
        raise InputError("a conversation needs a question, got none")
    rounds: list[_Round] = []
    picture: ImageArray | None = None
    region = 1
    for index in range(0, len(conversation), 2):
        pair = conversation[index : index + 2]
        roles = tuple(message.role for message in pair)
        if roles not in (("user", "assistant"), ("user",)):
            raise InputError(
                f"user and assistant must take turns, the user first; messages {index + 1} and "
                f"{index + 2} come from {' and '.join(roles)}"
            )
        user = pair[0]
        if not user.text.strip() and not user.prompts and not user.images:
            raise InputError("the instruction is empty; say what to do")
        picture = user.images[-1] if user.images else picture
        answer = pair[1] if len(pair) == 2 else None
        rounds.append(_Round(user, answer, picture, region))
        region += len(user.prompts)
    return system, rounds


def _padded(rows: Sequence[_Row], config: RouterConfig, training: bool) -> RouterBatch:
    longest = max(len(row.ids) for row in rows)
    input_ids = torch.full((len(rows), longest), config.token_ids.pad, dtype=torch.int64)
    labels = torch.full((len(rows), longest), NOT_LEARNED, dtype=torch.int64)
    lengths = torch.tensor([len(row.ids) for row in rows])
    for index, row in enumerate(rows):
        input_ids[index, : len(row.ids)] = torch.tensor(row.ids)
        labels[index, : len(row.ids)] = torch.tensor(row.labels)
    tiles = [tile for row in rows for tile in row.tiles]
    regions = [region for row in rows for region in row.regions]
    return RouterBatch(
        input_ids=input_ids,
        attention_mask=torch.arange(longest)[None] < lengths[:, None],
        labels=labels if training else None,
        tiles=torch.cat(tiles) if tiles else None,
        tile_counts=tuple(tuple(row.tile_counts) for row in rows),
        regions=torch.stack(regions) if regions else None,
        region_images=tuple(tuple(row.region_images) for row in rows),
    )
