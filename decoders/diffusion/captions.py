"""Words to token ids, as CLIP's text encoder reads them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import CLIPTokenizer

from superlink.decoders.files import whole_file
from superlink.router.errors import ModelError

logger = logging.getLogger(__name__)

# What transformers' `save_pretrained` of a CLIP tokenizer writes, in this version and earlier ones.
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def load_tokenizer(folder: str | Path) -> CLIPTokenizer:
    """Raises ModelError where the folder holds no tokenizer."""
    try:
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"no tokenizer in {str(folder)!r}: {' '.join(str(error).split())}") from error
    return tokenizer


def copy_tokenizer(source: Path, target: Path) -> bool:
    """Make `target` a folder with the tokenizer's files of `source`, and no others of a tokenizer.

    Returns:
        Whether there is a tokenizer to copy; if not, `target` is left alone, and a line of the log says so.

    Raises:
        InputError: `target` cannot be written.
    """
    names = [name for name in FILES if (source / name).is_file()]
    if not names:
        # No error: the decoder may never have read words, and a long training may be what is being saved.
        logger.warning("no tokenizer in %r: the saved decoder will read no words", str(source))
        return False
    if target.is_dir() and target.samefile(source):
        return True
    for name in names:
        with whole_file(target / name) as part:
            shutil.copyfile(source / name, part)
    for name in set(FILES) - set(names):
        (target / name).unlink(missing_ok=True)
    return True


def token_ids(tokenizer: CLIPTokenizer, captions: Sequence[str], length: int) -> Tensor:
    """(B, length) ids, cut off or padded."""
    coded = tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    ids: Tensor = coded["input_ids"]
    return ids
