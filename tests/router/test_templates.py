from __future__ import annotations

import pytest

from superlink.router.errors import ModelError
from superlink.router.templates import PLAIN_CHAT, chat_template


def test_templates_are_found_by_name() -> None:
    assert chat_template("plain_chat") is PLAIN_CHAT


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="'plain_chat', 'vicuna_v1'"):
        chat_template("chatml")
