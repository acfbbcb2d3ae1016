"""Writing answers: batches of unequal prompts, in which a routing token and its queries are one step.

Rows join and leave between steps, so one loop can serve many sessions. A row inserts its queries
when its own token comes; the others take one position in that step, as always. What a prompt has in
common with an earlier row need not be computed again (`prefixes.py`).

Axes: B rows, N positions of all rows in one step, L queries of one routing token, D router width,
V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from superlink.router.batch import RouterBatch
from superlink.router.cache import SlotCache
from superlink.router.encoded import EncodedRequest, RequestEncoder
from superlink.router.errors import InputError, ModelError
from superlink.router.links import Reply, SuperLink
from superlink.router.model import Router
from superlink.router.packing import Packing, packed_attention
from superlink.router.prefixes import PrefixStore, extended
from superlink.router.requests import (
    Event,
    Finished,
    GenerateOptions,
    LinkReady,
    Reason,
    Request,
    TextDelta,
)
from superlink.router.rows import Row, Waiting
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


class GenerationLoop:
    """Rows being written together.

    `add` takes requests at any time; every `step` is one forward pass, either over newly added
    prompts or over all running rows, and returns what came of it. Prompts that wait take turns with
    running rows, first come first served. Not for several threads at once.
    """

    def __init__(
        self,
        router: Router,
        tokenizer: RouterTokenizer,
        *,
        observe: Callable[[StepStates], None] | None = None,
        max_rows: int | None = None,
        max_prefill: int | None = None,
        prefixes: PrefixStore | None = None,
    ) -> None:
        """
        Args:
            observe: is told what every forward pass computed.
            max_rows: that run at the same time; the others wait.
            max_prefill: positions of prompts in one pass, so that running rows wait no longer than
                that; a longer prompt goes alone.
            prefixes: beginnings of rows to reuse, kept of every row that ends.

        Raises:
            InputError: `max_rows` is less than 1.
        """
        if max_rows is not None and max_rows < 1:
            raise InputError(f"max_rows must be at least 1, got {max_rows}; nothing would ever be written")
        self._router = router
        self._tokenizer = tokenizer
        self._observe = observe
        self._max_rows = max_rows
        self._max_prefill = max_prefill
        self._prefixes = prefixes
        self._encoder = RequestEncoder(tokenizer, router.config, content=prefixes is not None)
        self._routes = router.config.routing_ids
        self._routing_texts = frozenset(token.text for token in router.config.tokens)
        self._end = router.config.token_ids.eos
        self._bans = torch.zeros(router.config.llm_config().vocab_size, device=router.device)
        special = router.config.token_ids.special
        banned = {special[text] for text in NEVER_WRITTEN if text in special}
        banned |= {tokenizer.special_ids[text] for text in (UNKNOWN, START) if text in tokenizer.special_ids}
        self._bans[sorted(banned)] = -torch.inf
        self._bans[tokenizer.size :] = -torch.inf  # rows of the embedding that no token has
        self._waiting = Waiting(max_positions=max_prefill, prefixes=prefixes)
        self._prefilling: list[Row] = []  # of a pass that is not over
        self._rows: list[Row] = []
        self._cache = SlotCache(0)
        self._next_number = 0
        self._prompts_next = True  # whose turn it is when prompts wait and rows run

    def __len__(self) -> int:
        """Rows that are not finished."""
        return len(self._rows) + len(self._waiting)

    @property
    def waiting(self) -> int:
        """Rows that have not begun."""
        return len(self._waiting)

    def add(self, requests: Sequence[Request]) -> list[int]:
        """Queue requests; they start together in the next step.

        Returns:
            Their row numbers, which events carry and which are never used again.

        Raises:
            InputError: one of the conversations cannot be used; none is queued.
        """
        return self.add_rows(self._encoder.encode(requests))

    def add_encoded(
        self, batch: RouterBatch, options: Sequence[GenerateOptions], expressions: Sequence[str]
    ) -> list[int]:
        """Queue prompts that are ids already; the placeholders of their routing tokens are in them."""
        return self.add_rows(self._encoder.rows(batch, options, expressions))

    def add_rows(self, requests: Sequence[EncodedRequest]) -> list[int]:
        """Queue what an encoder of the same router made of requests."""
        rows = [self._new_row(request) for request in requests]
        self._waiting.add(rows)
        return [row.number for row in rows]

    def cancel(self, rows: Sequence[int]) -> None:
        """Forget rows: no event of theirs comes any more. Unknown and finished rows are no error."""
        gone = set(rows)
        self._waiting.drop(gone)
        self._keep([index for index, row in enumerate(self._rows) if row.number not in gone])

    @torch.no_grad()
    def step(self) -> list[Event]:
        """One forward pass; no events and no work when nothing is left to do.

        Whatever this raises, `abandon` makes the loop usable again.
        """
        with packed_attention(self._router.language):
            if prompts := self._next_prompts():
                return self._prefill(prompts)
            if self._rows:
                return self._decode()
        return []

    def abandon(self) -> list[int]:
        """After a step that raised: forget its rows, so that the others go on.

        Prompts that were read together are put back and read one by one, so that only those are
        forgotten that fail alone.

        Returns:
            The numbers of the rows that are forgotten.
        """
        failed, self._prefilling = self._prefilling, []
        if len(failed) > 1:
            self._waiting.put_back(failed)
            return []
        if not failed:
            failed, self._rows, self._cache = self._rows, [], SlotCache(0)
        return [row.number for row in failed]

    def _new_row(self, request: EncodedRequest) -> Row:
        draws: list[float] = []
        options = request.options
        if options.temperature > 0:
            generator = torch.Generator().manual_seed(options.seed)
            # However many are allowed, no row has more tokens than the router has positions.
            most = min(options.max_new_tokens, self._router.config.max_positions)
            draws = torch.rand(most, generator=generator, dtype=torch.float64).tolist()
        number = self._next_number
        self._next_number += 1
        writer = ReplyWriter(
            self._tokenizer, self._routing_texts, stop=options.stop, expression=request.expression
        )
        started = time.perf_counter()
        return Row(
            number=number,
            request=request,
            writer=writer,
            length=request.length,
            draws=draws,
            started=started,
        )

    def _next_prompts(self) -> list[Row]:
        """Waiting rows whose turn it is, in the order in which they came."""
        if self._rows and not self._prompts_next:
            self._prompts_next = True
            return []
        most = len(self) if self._max_rows is None else self._max_rows
        taken = self._waiting.take(most - len(self._rows))
        self._prompts_next = not taken
        return taken

    def _prefill(self, rows: list[Row]) -> list[Event]:
        self._prefilling = rows
        pad = self._router.config.token_ids.pad
        batch = RouterBatch.joined([row.request.batch for row in rows], pad=pad).to(self._router.device)
        starts = [row.known for row in rows]
        cache = SlotCache(len(rows))
        for index, row in enumerate(rows):
            if row.prefix is not None:
                cache.fill(index, row.prefix.states, row.known)
        embeds = self._router.embed(batch, starts=starts)[batch.tail(starts)]
        widths = [row.length - row.known for row in rows]
        packing = Packing.of(widths, starts, embeds.device)
        logits = self._logits(rows, packing, self._run(cache, embeds, packing))
        chosen = self._choose(rows, logits)
        if self._rows:
            self._cache.join(cache)
        else:
            self._cache = cache
        self._rows += rows
        self._prefilling = []
        events: list[Event] = []
        for row, index in zip(rows, chosen, strict=True):
            row.prefilled = time.perf_counter()
            row.prefix = None
            self._write(row, index, events)
        self._drop_done()
        return events

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

    def _logits(self, rows: Sequence[Row], packing: Packing, hidden: Tensor) -> Tensor:
        """(B, V) at each row's last position."""
        logits: Tensor = self._router.language.lm_head(hidden[packing.ends]).float()
        if bool(logits.isnan().any()):  # the best of them would be the token with id 0, again and again
            raise ModelError("the router's scores are not numbers; are its weights damaged?")
        if self._observe is not None:
            numbers = tuple(row.number for row in rows)
            states = StepStates(rows=numbers, widths=packing.widths, hidden=hidden[None], logits=logits)
            self._observe(states)
        return logits

    def _choose(self, rows: Sequence[Row], logits: Tensor) -> list[int]:
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

    def _write(self, row: Row, index: int, events: list[Event]) -> None:
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

    def _is_full(self, row: Row) -> bool:
        options = row.options
        most = options.max_new_tokens if options.forced is None else len(options.forced)
        room = self._router.config.max_positions - row.length
        return len(row.ids) >= most or room < self._encoder.group_room

    def _link(self, row: Row, embeddings: Tensor, events: list[Event]) -> None:
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

    def _finish(self, row: Row, reason: Reason, events: list[Event]) -> None:
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
            prompt_length=row.request.length,
        )
        events.append(Finished(row=row.number, reply=reply, reason=reason))

    def _drop_done(self) -> None:
        """Finished rows leave the batch."""
        self._keep(
            [i for i, row in enumerate(self._rows) if row.ending is None or row.owed is not None],
        )

    def _keep(self, kept: Sequence[int]) -> None:
        """Compact the batch; the beginnings of rows that leave are remembered."""
        if len(kept) == len(self._rows):
            return
        if self._prefixes is not None:
            for index in sorted({*range(len(self._rows))} - {*kept}):
                row, config = self._rows[index], self._router.config
                if row.request.content is not None:
                    content = extended(row.request.content, row.ids, config, row.length)
                    self._prefixes.keep(content, self._cache.row(index, row.length))
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
