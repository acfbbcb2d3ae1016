"""Words to ids and back.

Byte-level BPE, so every text encodes and decodes without loss. Special tokens are written only
where the caller names them: what a person types is always plain text, "[DET]" and "<image>" too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from typing_extensions import Self

from superlink.router.config import TokenIds
from superlink.router.errors import InputError, ModelError
from superlink.router.tokens import (
    GROUND_END,
    GROUND_START,
    PAD,
    PHRASE_END,
    PHRASE_START,
    ROUTING_TEXTS,
    SPECIAL_TOKENS,
)

UNKNOWN, START, END = "<unk>", "<s>", "</s>"  # ids 0, 1, 2, as in Llama
FILE_NAME = "tokenizer.json"

# A word, a digit or a punctuation mark, each with the space before it; merges never cross these,
# so no merge can spell a special token either.
WORDS = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s+"


class RouterTokenizer:
    """The router's vocabulary: base words, then the special tokens in their fixed order."""

    def __init__(self, tokenizer: Tokenizer, *, extra_tokens: Sequence[str] = ()) -> None:
        """Add the special tokens that `tokenizer` lacks.

        Args:
            tokenizer: byte-level BPE, or BPE with byte fallback as Llama has it.
            extra_tokens: routing tokens beyond the built-in ones, in order of their ids.
        """
        base = {name: tokenizer.token_to_id(name) for name in (START, END)}
        if None in base.values():
            raise ModelError(f"the tokenizer has no {START!r} or {END!r}; a Llama-style vocabulary is needed")
        tokenizer.add_special_tokens([*SPECIAL_TOKENS, *extra_tokens])
        tokenizer.encode_special_tokens = True  # text never yields special ids
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special_texts: dict[int, str] = {index: str(added[index].content) for index in sorted(added)}
        self.special_ids: dict[str, int] = {text: index for index, text in self.special_texts.items()}
        for name, index in base.items():
            if index is not None:
                self.special_ids[name], self.special_texts[index] = index, name
        self.size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self.token_bytes: tuple[bytes, ...] = self._byte_table()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, extra_tokens: Sequence[str] = ()) -> Self:
        """Learn merges from texts.

        Args:
            texts: plain text, without special tokens.
            vocab_size: largest number of ids, special tokens included; fewer when the texts
                hold fewer pairs.
            extra_tokens: routing tokens beyond the built-in ones.

        Raises:
            InputError: no room for the 256 bytes and the special tokens.
        """
        reserved = len(SPECIAL_TOKENS) + len(extra_tokens)
        least = 3 + 256 + reserved
        if vocab_size < least:
            raise InputError(f"a vocabulary needs at least {least} ids, got {vocab_size}")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - reserved,
            special_tokens=[UNKNOWN, START, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer, extra_tokens=extra_tokens)

    @classmethod
    def load(cls, folder: str | Path, *, extra_tokens: Sequence[str] = ()) -> Self:
        """Read `tokenizer.json` from a model folder.

        Raises:
            ModelError: no such file, or one that cannot be read.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise ModelError(f"no {FILE_NAME} in {str(folder)!r}; is this a model folder?")
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        # The Rust library raises plain Exception for every unreadable file.
        except Exception as error:
            raise ModelError(f"{str(path)!r} is not a tokenizer file: {error}") from error
        return cls(tokenizer, extra_tokens=extra_tokens)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` into a folder, made if needed."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / FILE_NAME).write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")

    @property
    def token_ids(self) -> TokenIds:
        """Ids as a router's configuration wants them; padding is "<unk>", as in Llama."""
        return TokenIds(
            pad=self.id_of(UNKNOWN) if UNKNOWN in self.special_ids else self.id_of(PAD),
            bos=self.id_of(START),
            eos=self.id_of(END),
            special={
                text: index for text, index in self.special_ids.items() if text not in (UNKNOWN, START, END)
            },
        )

    def encode(self, text: str, *, markup: Collection[str] = ()) -> list[int]:
        """Ids of a text, without start and end.

        Args:
            text: any text; lone surrogates become U+FFFD.
            markup: special tokens that count as such in `text`; all others are plain characters.
        """
        if not markup:
            return self._encode_words(text)
        ids: list[int] = []
        for piece in _splitter(frozenset(markup)).split(text):
            if piece in markup:
                ids.append(self.special_ids[piece])
            elif piece:
                ids.extend(self._encode_words(piece))
        return ids

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        """The text of ids; special tokens are written out or, with `special=False`, left out."""
        parts: list[bytes] = []
        for index in ids:
            name = self.special_texts.get(index)
            if name is None:
                parts.append(self.token_bytes[index])
            elif special:
                parts.append(name.encode())
        return b"".join(parts).decode("utf-8", errors="replace")

    def id_of(self, token: str) -> int:
        """The id of a special token.

        Raises:
            ModelError: not in this vocabulary.
        """
        if token not in self.special_ids:
            raise ModelError(f"special token {token!r} is not in the vocabulary of {self.size} ids")
        return self.special_ids[token]

    def _encode_words(self, text: str) -> list[int]:
        try:
            encoded = self._tokenizer.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):  # lone surrogates have no UTF-8
            clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            encoded = self._tokenizer.encode(clean, add_special_tokens=False)
        return list(encoded.ids)

    def _byte_table(self) -> tuple[bytes, ...]:
        """The bytes of every id; none for special tokens."""
        byte_level = isinstance(self._tokenizer.decoder, decoders.ByteLevel)
        read = _byte_level_bytes if byte_level else _byte_fallback_bytes
        table = [b""] * self.size
        for text, index in self._tokenizer.get_vocab(with_added_tokens=False).items():
            if index not in self.special_texts:
                table[index] = read(text)
        return tuple(table)


def answer_markup(routing_texts: Iterable[str] = ROUTING_TEXTS) -> frozenset[str]:
    """The special tokens that an assistant's text may hold."""
    return frozenset({PHRASE_START, PHRASE_END, GROUND_START, GROUND_END, *routing_texts})


@lru_cache(maxsize=64)
def _splitter(markup: frozenset[str]) -> re.Pattern[str]:
    longest_first = sorted(markup, key=lambda text: (-len(text), text))
    return re.compile("(" + "|".join(re.escape(text) for text in longest_first) + ")")


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """The printable stand-in of each byte (GPT-2, Radford et al. 2019)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _byte_level_bytes(text: str) -> bytes:
    table = _byte_of_character()
    return bytes(table[character] for character in text)


def _byte_fallback_bytes(text: str) -> bytes:
    """Llama's vocabulary: "<0x0A>" for a byte, a low line block for a space."""
    if re.fullmatch(r"<0x[0-9A-F]{2}>", text):
        return bytes([int(text[3:5], 16)])
    return text.replace("\u2581", " ").encode()
