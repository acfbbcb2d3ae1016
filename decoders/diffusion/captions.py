"""Words to token ids, as CLIP's text encoder reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import CLIPTokenizer

from superlink.router.errors import ModelError


def load_tokenizer(folder: str | Path) -> CLIPTokenizer:
    """Raises ModelError where the folder holds no tokenizer."""
    try:
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"no tokenizer in {str(folder)!r}: {' '.join(str(error).split())}") from error
    return tokenizer


def token_ids(tokenizer: CLIPTokenizer, captions: Sequence[str], length: int) -> Tensor:
    """(B, length) ids, cut off or padded."""
    coded = tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    ids: Tensor = coded["input_ids"]
    return ids
