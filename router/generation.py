"""Writing answers: batches of unequal prompts, in which a routing token and its queries are one step.

Rows join and leave between steps, so one loop can serve many sessions. A row inserts its queries
when its own token comes; the others take one position in that step, as always.

Axes: B rows, N positions of all rows in one step, L queries of one routing token, D router width,
V vocabulary.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from superlink.router.batch import RouterBatch
from superlink.router.cache import SlotCache
from superlink.router.encoding import encode
from superlink.router.errors import InputError
from superlink.router.links import Reply, SuperLink
from superlink.router.model import Router
from superlink.router.packing import Packing, packed_attention
from superlink.router.requests import (
    Event,
    Finished,
    GenerateOptions,
    LinkReady,
    Reason,
    Request,
    TextDelta,
)
from superlink.router.sampling import choose
from superlink.router.tokenizer import START, UNKNOWN, RouterTokenizer
from superlink.router.tokens import (
    IMAGE,
    IMAGE_END,
    IMAGE_PATCH,
    IMAGE_START,
    LINK_PLACEHOLDERS,
    PAD,
    REGION,
    RoutingToken,
)
from superlink.router.writing import ReplyWriter

__all__ = [
    "Event",
    "Finished",
    "GenerateOptions",
    "GenerationLoop",
    "LinkReady",
    "Request",
    "StepStates",
    "TextDelta",
    "generate",
    "stream",
]

# Never answers: they stand for things that only an input has, or that the loop itself inserts.
NEVER_WRITTEN = (UNKNOWN, START, PAD, IMAGE, IMAGE_PATCH, IMAGE_START, IMAGE_END, REGION, *LINK_PLACEHOLDERS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepStates:
    """What one forward pass computed, for tests and measurements."""

    rows: tuple[int, ...]
    widths: tuple[int, ...]  # positions of each row
    hidden: Tensor  # (1, N, D) after the final norm, row after row
    logits: Tensor  # (B, V) at each row's last position, nothing banned


@dataclass(slots=True, kw_only=True, eq=False)
class _Row:
    """One reply on its way."""

    number: int
    options: GenerateOptions
    writer: ReplyWriter
    length: int  # positions in the cache
    prompt: int  # positions before the reply
    draws: list[float]  # one uniform number for every token; none when greedy
    ids: list[int] = field(default_factory=list)
    links: list[SuperLink] = field(default_factory=list)
    owed: RoutingToken | None = None  # written, but its link is not yet computed
    ending: Reason | None = None  # nothing more is written
    cancelled: bool = False
    started: float = 0.0
    prefilled: float = 0.0


class GenerationLoop:
    """Rows being written together.

    `add` takes requests at any time; every `step` is one forward pass, either over newly added
    prompts or over all running rows, and returns what came of it. Not for several threads at once.
    """

    def __init__(
        self,
        router: Router,
        tokenizer: RouterTokenizer,
        *,
        observe: Callable[[StepStates], None] | None = None,
    ) -> None:
        self._router = router
        self._tokenizer = tokenizer
        self._observe = observe
        self._routes = router.config.routing_ids
        self._routing_texts = frozenset(token.text for token in router.config.tokens)
        self._end = router.config.token_ids.eos
        longest_group = 1 + max((len(router.query(token)) for token in router.config.tokens), default=0)
        # For the id just written with its queries, and for one more such group.
        self._group_room = 2 * longest_group
        vocabulary = router.config.llm_config().vocab_size
        self._bans = torch.zeros(vocabulary, device=router.device)
        special = router.config.token_ids.special
        banned = {special[text] for text in NEVER_WRITTEN if text in special}
        banned |= {tokenizer.special_ids[text] for text in (UNKNOWN, START) if text in tokenizer.special_ids}
        self._bans[sorted(banned)] = -torch.inf
        self._bans[tokenizer.size :] = -torch.inf  # rows of the embedding that no token has
        self._waiting: deque[tuple[RouterBatch, list[_Row]]] = deque()
        self._rows: list[_Row] = []
        self._cache = SlotCache(0)
        self._next_number = 0

    def __len__(self) -> int:
        """Rows that are not finished."""
        return len(self._rows) + sum(len(rows) for _, rows in self._waiting)

    def add(self, requests: Sequence[Request]) -> list[int]:
        """Queue requests; they start together in the next step.

        Oldest rounds are dropped where a conversation would leave too little room for the answer:
        `max_new_tokens`, or a quarter of the router's positions if that is less.

        Returns:
            Their row numbers, which events carry and which are never used again.

        Raises:
            InputError: one of the conversations cannot be used; none is queued.
        """
        conversations = [request.conversation for request in requests]
        longest = self._router.config.max_positions
        answer = max((request.options.max_new_tokens for request in requests), default=0)
        limit = longest - min(answer, longest // 4) - self._group_room
        batch = encode(conversations, self._tokenizer, self._router.config, training=False, limit=limit)
        expressions = [
            request.conversation[-1].text.strip() if request.expression is None else request.expression
            for request in requests
        ]
        return self.add_encoded(batch, [request.options for request in requests], expressions)

    def add_encoded(
        self, batch: RouterBatch, options: Sequence[GenerateOptions], expressions: Sequence[str]
    ) -> list[int]:
        """Queue prompts that are ids already; the placeholders of their routing tokens are in them."""
        lengths = batch.attention_mask.sum(dim=1).tolist()
        started = time.perf_counter()
        rows = []
        for length, chosen, expression in zip(lengths, options, expressions, strict=True):
            if length + self._group_room > self._router.config.max_positions:
                raise InputError(
                    f"the prompt takes {length} of {self._router.config.max_positions} positions "
                    f"and leaves no room for an answer; use fewer words or fewer pictures"
                )
            rows.append(self._new_row(length, chosen, expression, started))
        self._waiting.append((batch, rows))
        return [row.number for row in rows]

    def cancel(self, rows: Sequence[int]) -> None:
        """Forget rows: no event of theirs comes any more. Unknown and finished rows are no error."""
        gone = set(rows)
        for row in [*self._rows, *(row for _, waiting in self._waiting for row in waiting)]:
            row.cancelled = row.cancelled or row.number in gone
        self._waiting = deque(item for item in self._waiting if not all(row.cancelled for row in item[1]))
        self._drop_done()

    @torch.no_grad()
    def step(self) -> list[Event]:
        """One forward pass; no events and no work when nothing is left to do."""
        with packed_attention(self._router.language):
            if self._waiting:
                return self._prefill(*self._waiting.popleft())
            if self._rows:
                return self._decode()
        return []

    def _new_row(self, length: int, options: GenerateOptions, expression: str, started: float) -> _Row:
        draws: list[float] = []
        if options.temperature > 0:
            generator = torch.Generator().manual_seed(options.seed)
            draws = torch.rand(options.max_new_tokens, generator=generator, dtype=torch.float64).tolist()
        vocabulary = len(self._bans)
        if any(not 0 <= index < vocabulary for index in options.forced or ()):
            raise InputError(f"forced ids must lie in a vocabulary of {vocabulary}, got {options.forced}")
        number = self._next_number
        self._next_number += 1
        writer = ReplyWriter(self._tokenizer, self._routing_texts, stop=options.stop, expression=expression)
        return _Row(
            number=number,
            options=options,
            writer=writer,
            length=length,
            prompt=length,
            draws=draws,
            started=started,
        )

    def _prefill(self, batch: RouterBatch, rows: list[_Row]) -> list[Event]:
        batch = batch.to(self._router.device)
        cache = SlotCache(len(rows))
        embeds = self._router.embed(batch)[batch.attention_mask]
        packing = Packing.of([row.length for row in rows], [0] * len(rows), embeds.device)
        logits = self._logits(rows, packing, self._run(cache, embeds, packing))
        events: list[Event] = []
        for row, index in zip(rows, self._choose(rows, logits), strict=True):
            row.prefilled = time.perf_counter()
            self._write(row, index, events)
        if self._rows:
            self._cache.join(cache)
        else:
            self._cache = cache
        self._rows += rows
        self._drop_done()
        cancelled = {row.number for row in rows if row.cancelled}
        return [event for event in events if event.row not in cancelled]

    def _decode(self) -> list[Event]:
        rows, router = self._rows, self._router
        queries = [None if row.owed is None else router.query(row.owed) for row in rows]
        widths = [1 if table is None else 1 + len(table) for table in queries]
        ids = torch.tensor([row.ids[-1] for row in rows], device=router.device)
        embeds: Tensor = router.language.get_input_embeddings()(ids)
        if max(widths) > 1:
            parts = zip(embeds.split(1), queries, strict=True)
            embeds = torch.cat([part for pair in parts for part in pair if part is not None])
        packing = Packing.of(widths, [row.length for row in rows], embeds.device)
        hidden = self._run(self._cache, embeds, packing)
        logits = self._logits(rows, packing, hidden)
        events: list[Event] = []
        states = hidden.split(widths)
        for row, index, own in zip(rows, self._choose(rows, logits), states, strict=True):
            row.length += len(own)
            if row.owed is not None:
                # A link kind without queries is read at the routing token itself.
                self._link(row, own[1:] if len(own) > 1 else own, events)
            if row.ending is not None:
                self._finish(row, row.ending, events)
            else:
                self._write(row, index, events)
        self._drop_done()
        return events

    def _run(self, cache: SlotCache, embeds: Tensor, packing: Packing) -> Tensor:
        """(N, D) hidden states of (N, D) `embeds`."""
        cache.place(packing.rows, packing.slots, packing.used)
        output = self._router.language.model(
            inputs_embeds=embeds[None],
            attention_mask=packing.mask(embeds.dtype),
            position_ids=packing.slots[None],
            past_key_values=cache,
            use_cache=True,
            packing=packing,
        )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _logits(self, rows: Sequence[_Row], packing: Packing, hidden: Tensor) -> Tensor:
        """(B, V) at each row's last position."""
        logits: Tensor = self._router.language.lm_head(hidden[packing.ends]).float()
        if self._observe is not None:
            numbers = tuple(row.number for row in rows)
            states = StepStates(rows=numbers, widths=packing.widths, hidden=hidden[None], logits=logits)
            self._observe(states)
        return logits

    def _choose(self, rows: Sequence[_Row], logits: Tensor) -> list[int]:
        """The next id of every row."""
        temperatures = [row.options.temperature for row in rows]
        chosen = choose(
            logits + self._bans,
            temperatures=temperatures,
            top_ps=[row.options.top_p for row in rows],
            draws=[row.draws[len(row.ids)] if len(row.ids) < len(row.draws) else 0.0 for row in rows],
        )
        for index, row in enumerate(rows):
            forced = row.options.forced
            if forced is not None and row.ending is None:
                chosen[index] = forced[len(row.ids)]
        return chosen

    def _write(self, row: _Row, index: int, events: list[Event]) -> None:
        """Take the next id of a row, and see whether it was the last one."""
        row.ids.append(index)
        if index == self._end:
            self._finish(row, "end", events)
            return
        if text := row.writer.add(index):
            events.append(TextDelta(row=row.number, text=text))
        row.owed = self._routes.get(index)
        if row.writer.stopped:
            row.ending = "stop"
        elif self._is_full(row):
            row.ending = "length"
        if row.ending is not None and row.owed is None:
            self._finish(row, row.ending, events)

    def _is_full(self, row: _Row) -> bool:
        options = row.options
        most = options.max_new_tokens if options.forced is None else len(options.forced)
        room = self._router.config.max_positions - row.length
        return len(row.ids) >= most or room < self._group_room

    def _link(self, row: _Row, embeddings: Tensor, events: list[Event]) -> None:
        assert row.owed is not None
        link = SuperLink(
            token=row.owed,
            embeddings=embeddings.clone(),
            phrase=row.writer.phrase,
            position=len(row.ids) - 1,
        )
        row.owed = None
        row.links.append(link)
        events.append(LinkReady(row=row.number, link=link))

    def _finish(self, row: _Row, reason: Reason, events: list[Event]) -> None:
        if text := row.writer.flush():
            events.append(TextDelta(row=row.number, text=text))
        row.ending = reason
        now = time.perf_counter()
        reply = Reply(
            text=row.writer.text,
            raw=row.writer.raw,
            links=tuple(row.links),
            token_ids=tuple(row.ids),
            timings={"prefill": row.prefilled - row.started, "decode": now - row.prefilled},
            prompt_length=row.prompt,
        )
        events.append(Finished(row=row.number, reply=reply, reason=reason))

    def _drop_done(self) -> None:
        """Compact the batch: finished and cancelled rows leave the cache."""
        kept = [
            index
            for index, row in enumerate(self._rows)
            if not row.cancelled and (row.ending is None or row.owed is not None)
        ]
        if len(kept) < len(self._rows):
            self._rows = [self._rows[index] for index in kept]
            self._cache.keep(kept)


def generate(router: Router, tokenizer: RouterTokenizer, requests: Sequence[Request]) -> list[Reply]:
    """Answer all requests in one batch, in their order.

    Raises:
        InputError: one of the conversations cannot be used; nothing was generated.
    """
    events = stream(router, tokenizer, requests)
    replies = {event.row: event.reply for event in events if isinstance(event, Finished)}
    return [replies[row] for row in range(len(requests))]


def stream(router: Router, tokenizer: RouterTokenizer, requests: Sequence[Request]) -> Iterator[Event]:
    """Answer all requests in one batch; `Event.row` is the index of the request.

    Raises:
        InputError: one of the conversations cannot be used; nothing was generated.
    """
    loop = GenerationLoop(router, tokenizer)
    if requests:
        loop.add(requests)
    return _run_dry(loop)


def _run_dry(loop: GenerationLoop) -> Iterator[Event]:
    while len(loop):
        yield from loop.step()
