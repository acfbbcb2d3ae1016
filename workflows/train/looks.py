"""Auxiliary losses: attention should go to what words are about.

Which thing a question means, and where in the picture its answer is to be read, follows from answers alone
only after very many of them: after hours of questions a router of ten layers still answered colours by
chance. Data that knows what its words are about (`Sample.looks`) can say it. Some heads of the language
model are asked for it, the others stay free:

    phrase_looks   the last token of "the red star" attends to the visual tokens that the star covers
    phrase_counts  in questions also so that it can count: each thing gets as much as the row's first token
    phrase_names   and, some layers later, names what is there through the router's own output layer
    answer_reads   the tokens that an answer is written from attend to the last tokens of the phrases asked
                   about; in a caption, to the last token of what was named before
    answer_looks   and, in later layers, to the visual tokens themselves

All but the third are the cross-entropy of a head's attention (supervised attention: Liu et al. 2017,
"Attention correctness in neural image captioning"; Qiao et al. 2018, "Exploring human-like attention
supervision in visual question answering"). Their weights are 0 unless a run asks for them.

Axes: B rows, T positions, K positions that are asked for something, n visual tokens of a tile, H heads,
V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb, repeat_kv

from superlink.router.batch import RouterBatch
from superlink.router.config import RouterConfig
from superlink.router.errors import InputError
from superlink.router.tokenizer import RouterTokenizer
from superlink.workflows.data.samples import Look, Sample
from superlink.workflows.train.config import Heads, Looking
from superlink.workflows.train.patch_words import name_words, squares

PHRASE_LOOKS, PHRASE_COUNTS, PHRASE_NAMES = "phrase_looks", "phrase_counts", "phrase_names"
ANSWER_READS, ANSWER_LOOKS = "answer_reads", "answer_looks"
LOOKS = (PHRASE_LOOKS, PHRASE_COUNTS, PHRASE_NAMES, ANSWER_READS, ANSWER_LOOKS)
_FIRST = 0  # the token of a row that gets what no thing gets


@dataclass(frozen=True, slots=True, eq=False)
class LookGoal:
    """Where attention should go from some positions of a batch, or what they should name."""

    rows: Tensor  # (K,) int64
    positions: Tensor  # (K,) int64
    shares: Tensor  # (K, T) what each position of the row should get, or (K, V) each word; sums to 1

    def to(self, device: torch.device) -> LookGoal:
        return LookGoal(self.rows.to(device), self.positions.to(device), self.shares.to(device))


@dataclass(slots=True)
class _Goals:
    """`LookGoal` of one kind, as it grows."""

    length: int  # T, or V
    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    shares: list[Tensor] = field(default_factory=list)

    def add(self, row: int, position: int, columns: Tensor, shares: Tensor) -> None:
        whole = torch.zeros(self.length).index_add(0, columns, shares)
        self.rows.append(row)
        self.positions.append(position)
        self.shares.append(whole)

    def goal(self) -> LookGoal:
        return LookGoal(torch.tensor(self.rows), torch.tensor(self.positions), torch.stack(self.shares))


def look_goals(
    rows: RouterBatch, samples: Sequence[Sample], tokenizer: RouterTokenizer, config: RouterConfig
) -> dict[str, LookGoal]:
    """What `Sample.looks` ask of a batch, by the names of `LOOKS`; nothing under a name without any.

    Messages that a row is too short for, and things that are hidden or in no tile, are left out.

    Raises:
        DataError: a sample tells of a picture that is missing, or of another size.
    """
    goals = {name: _Goals(rows.input_ids.shape[1]) for name in LOOKS}
    goals[PHRASE_NAMES].length = config.llm["vocab_size"]
    visual = rows.input_ids == config.token_ids.image_patch
    for row, sample in enumerate(samples):
        if not sample.looks or sample.shown is None:
            continue
        columns = visual[row].nonzero()[-config.tokens_per_tile :, 0]
        if len(columns) < config.tokens_per_tile:
            continue
        of_row = _Row(
            index=row,
            visual=columns,
            cells=squares(sample, config).flatten(1),
            words=_Spelled.of(rows, row, sample, tokenizer),
            names=name_words(sample, tokenizer),
        )
        for look in sample.looks:
            of_row.ask(look, sample, goals)
    return {name: found.goal() for name, found in goals.items() if found.rows}


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    index: int
    visual: Tensor  # (n,) positions of the tile's visual tokens
    cells: Tensor  # (N, n) how much of each square each thing covers
    words: _Spelled
    names: Sequence[tuple[int, ...]]  # the words of each thing's name

    def ask(self, look: Look, sample: Sample, goals: Mapping[str, _Goals]) -> None:
        seen = [thing for thing in look.things if self.cells[thing].sum() > 0]
        tokens = self.words.tokens(look)
        if not tokens or len(seen) < len(look.things):
            return
        each = self.cells[seen]
        each = each / each.sum(1, keepdim=True)  # things in equal parts, however large
        if sample.conversation[look.message].role == "user":
            whole = torch.cat([torch.ones(1), each.sum(0)]) / (len(seen) + 1)
            columns = torch.cat([torch.tensor([_FIRST]), self.visual])
            goals[PHRASE_COUNTS].add(self.index, tokens[-1], columns, whole)
        else:
            self._answer(look, sample, tokens, goals)
        if not seen:
            return
        if look.names:
            goals[PHRASE_LOOKS].add(self.index, tokens[-1], self.visual, each.mean(0))
            parts = [(word, 1 / len(self.names[one]) / len(seen)) for one in seen for word in self.names[one]]
            words, shares = (torch.tensor(part) for part in zip(*parts, strict=True))
            goals[PHRASE_NAMES].add(self.index, tokens[-1], words, shares)
        if sample.conversation[look.message].role == "assistant":
            for token in tokens:  # what a token is written from is the position before it
                goals[ANSWER_LOOKS].add(self.index, token - 1, self.visual, each.mean(0))

    def _answer(self, look: Look, sample: Sample, tokens: list[int], goals: Mapping[str, _Goals]) -> None:
        named = [one for one in sample.looks if one.names]
        if look.names:  # what was named before it in the same message
            read = [one for one in named if one.message == look.message and one.stop <= look.start][-1:]
        else:  # what was asked about
            read = [one for one in named if one.message == look.message - 1]
        phrases = sorted({found[-1] for one in read if (found := self.words.tokens(one))})
        if phrases:
            share = torch.full((len(phrases),), 1 / len(phrases))
            for token in tokens:
                goals[ANSWER_READS].add(self.index, token - 1, torch.tensor(phrases), share)


@dataclass(frozen=True, slots=True)
class _Spelled:
    """Where in a row the messages of its conversation stand."""

    starts: Mapping[int, int]  # first byte of each message that is there
    owners: Sequence[int]  # of every byte the position whose token spells it
    first: Sequence[int]  # of every position the first byte that is no space
    texts: Sequence[str]

    @classmethod
    def of(cls, rows: RouterBatch, row: int, sample: Sample, tokenizer: RouterTokenizer) -> _Spelled:
        spelled, owners, first = b"", [], []
        for position, index in enumerate(rows.input_ids[row].tolist()):
            piece = tokenizer.token_bytes[index] if index < len(tokenizer.token_bytes) else b""
            first.append(len(spelled) + len(piece) - len(piece.lstrip(b" ")))
            owners += [position] * len(piece)
            spelled += piece
        spelled, end, starts = spelled.lower(), len(spelled), {}  # a vocabulary may know small letters alone
        texts = [message.text for message in sample.conversation]
        # The last one first: a row that is full has lost its oldest rounds, and replies are often the same.
        for message, text in reversed([*enumerate(texts)]):
            end = spelled.rfind(text.encode().lower(), 0, end)
            if end < 0:
                break
            starts[message] = end
        return cls(starts, owners, first, texts)

    def tokens(self, look: Look) -> list[int]:
        """Positions of the tokens that begin inside a look."""
        if look.message not in self.starts:
            return []
        text, begin = self.texts[look.message], self.starts[look.message]
        start, stop = (begin + len(text[:end].encode()) for end in (look.start, look.stop))
        positions = sorted(set(self.owners[start:stop]))
        return [position for position in positions if start <= self.first[position] < stop]


class Watched:
    """Queries, keys and outputs of some layers, as a pass of the language model made them."""

    def __init__(self) -> None:
        self.parts: dict[tuple[int, str], Any] = {}

    def log_attention(
        self, attention: LlamaAttention, layer: int, heads: Sequence[int], goal: LookGoal
    ) -> Tensor:
        """(K, H, T) logarithm of the weights that some heads give each position of their rows."""
        whole = (self.parts[layer, "q_proj"].float(), self.parts[layer, "k_proj"].float())
        shape = (*whole[0].shape[:2], -1, attention.head_dim)
        queries, keys = (one.view(shape).transpose(1, 2) for one in whole)
        cos, sin = (one.float() for one in self.parts[layer, "rotary"])
        queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
        keys = repeat_kv(keys, attention.num_key_value_groups)
        queries, keys = queries[:, list(heads)], keys[:, list(heads)]
        places = torch.arange(keys.shape[2], device=keys.device)
        parts = []
        for row in goal.rows.unique().tolist():
            here = (goal.rows == row).nonzero()[:, 0]
            found = torch.einsum("hkd,htd->kht", queries[row][:, goal.positions[here]], keys[row])
            later = places > goal.positions[here, None]
            parts.append((here, found.masked_fill(later[:, None], -math.inf)))
        order = torch.cat([here for here, _ in parts])
        scores = torch.cat([found for _, found in parts])[order.argsort()]
        weights: Tensor = (scores * attention.scaling).log_softmax(-1)
        return weights


@contextmanager
def watched(language: LlamaForCausalLM, layers: Collection[int]) -> Iterator[Watched]:
    """Watch the passes of some layers that are made inside; only the last one is kept."""
    seen = Watched()

    def keeper(layer: int, part: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            seen.parts[layer, part] = output

        return keep

    def turner(layer: int) -> Callable[[nn.Module, Any, dict[str, Any]], None]:
        def keep(module: nn.Module, inputs: Any, given: dict[str, Any]) -> None:
            seen.parts[layer, "rotary"] = given["position_embeddings"]

        return keep

    with ExitStack() as stack:
        for layer in sorted(layers):
            whole = language.model.layers[layer]
            attention = whole.self_attn
            hooks = [attention.register_forward_pre_hook(turner(layer), with_kwargs=True)]
            hooks += [whole.register_forward_hook(keeper(layer, "output"))]
            hooks += [
                getattr(attention, part).register_forward_hook(keeper(layer, part))
                for part in ("q_proj", "k_proj")
            ]
            for hook in hooks:
                stack.callback(hook.remove)
        yield seen


def looks_loss(language: LlamaForCausalLM, seen: Watched, heads: Heads, goal: LookGoal) -> Tensor:
    """Cross-entropy summed over the positions of a goal, and the mean over all heads of all layers."""
    total = goal.shares.new_zeros(())
    for layer in heads.layers:
        attention = language.model.layers[layer].self_attn
        assert isinstance(attention, LlamaAttention)
        logs = seen.log_attention(attention, layer, heads.heads, goal)
        wanted = goal.shares[:, None]
        total = total - torch.where(wanted > 0, wanted * logs, 0.0).sum() / len(heads.heads)
    return total / len(heads.layers)


def names_loss(language: LlamaForCausalLM, seen: Watched, layer: int, goal: LookGoal) -> Tensor:
    """Cross-entropy of words, as the output layer reads them off a layer, summed over a goal's positions."""
    hidden: Tensor = seen.parts[layer, "output"][goal.rows, goal.positions]
    logits: Tensor = language.lm_head(language.model.norm(hidden)).float()
    return -(goal.shares * logits.log_softmax(-1)).sum()


def looks_terms(
    language: LlamaForCausalLM, seen: Watched, looking: Looking, goals: Mapping[str, LookGoal]
) -> dict[str, Tensor]:
    """The sum of every term that has goals, by the names of `LOOKS`."""
    return {
        name: names_loss(language, seen, looking.phrase_names, goal)
        if name == PHRASE_NAMES
        else looks_loss(language, seen, getattr(looking, name), goal)
        for name, goal in goals.items()
    }


def checked_looking(looking: Looking, language: LlamaForCausalLM) -> Looking:
    """The same.

    Raises:
        InputError: a layer or head that the language model does not have.
    """
    layers, heads = language.config.num_hidden_layers, language.config.num_attention_heads
    for name in LOOKS:
        wanted: Heads | int = getattr(looking, name)
        if isinstance(wanted, int):
            wanted = Heads(layers=(wanted,), heads=(0,))
        for what, numbers, count in (("layer", wanted.layers, layers), ("head", wanted.heads, heads)):
            for number in numbers:
                if not 0 <= number < count:
                    raise InputError(
                        f"{name} asks for {what} {number}, the language model has {count} {what}s, "
                        f"the first of them 0"
                    )
    return looking
