"""Requests as rows of ids: all the work before the router, which any thread may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from superlink.router.batch import RouterBatch
from superlink.router.config import RouterConfig
from superlink.router.encoding import encode
from superlink.router.errors import InputError
from superlink.router.prefixes import Content, content_of
from superlink.router.requests import GenerateOptions, Request
from superlink.router.tokenizer import RouterTokenizer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedRequest:
    """One request, ready for the router."""

    batch: RouterBatch  # of one row, without padding
    options: GenerateOptions
    expression: str  # what a routing token without words means
    content: Content | None = None  # by which a beginning in common with others is found

    @property
    def length(self) -> int:
        """Positions of the prompt."""
        return self.batch.input_ids.shape[1]


class RequestEncoder:
    """Requests of one router to rows. Holds nothing that changes, so threads may share it."""

    def __init__(self, tokenizer: RouterTokenizer, config: RouterConfig, *, content: bool = False) -> None:
        """
        Args:
            content: also hash what the rows hold, for the reuse of prefixes.
        """
        self._tokenizer = tokenizer
        self._config = config
        self._content = content
        self._vocabulary = config.llm_config().vocab_size
        longest_group = 1 + max((len(config.placeholders(token)) for token in config.tokens), default=0)
        # For the id just written with its queries, and for one more such group.
        self.group_room = 2 * longest_group

    def encode(self, requests: Sequence[Request]) -> list[EncodedRequest]:
        """One row a request.

        Oldest rounds are dropped where a conversation would leave too little room for the answer:
        `max_new_tokens`, or a quarter of the router's positions if that is less.

        Raises:
            InputError: one of the requests cannot be used.
        """
        rows = []
        for request in requests:
            longest = self._config.max_positions
            limit = longest - min(request.options.max_new_tokens, longest // 4) - self.group_room
            batch = encode(request.conversation, self._tokenizer, self._config, training=False, limit=limit)
            words = (
                request.conversation[-1].text.strip() if request.expression is None else request.expression
            )
            rows += self.rows(batch, [request.options], [words])
        return rows

    def rows(
        self, batch: RouterBatch, options: Sequence[GenerateOptions], expressions: Sequence[str]
    ) -> list[EncodedRequest]:
        """Rows of prompts that are ids already.

        Raises:
            InputError: one of them leaves no room for an answer, or its options do not fit the router.
        """
        found = []
        for row, chosen, expression in zip(batch.rows(), options, expressions, strict=True):
            self._check(row, chosen)
            content = content_of(row, self._config) if self._content else None
            found.append(EncodedRequest(batch=row, options=chosen, expression=expression, content=content))
        return found

    def _check(self, row: RouterBatch, options: GenerateOptions) -> None:
        length = row.input_ids.shape[1]
        if length + self.group_room > self._config.max_positions:
            raise InputError(
                f"the prompt takes {length} of {self._config.max_positions} positions "
                f"and leaves no room for an answer; use fewer words or fewer pictures"
            )
        if any(not 0 <= index < self._vocabulary for index in options.forced or ()):
            raise InputError(
                f"forced ids must lie in a vocabulary of {self._vocabulary}, got {options.forced}"
            )
        if any(row.region_images) and not self._config.region_encoder:
            raise InputError("this router has no region encoder; ask without points, boxes and masks")
