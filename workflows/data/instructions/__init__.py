"""The words of the world: instructions, answers and conversations to learn routing from."""

from __future__ import annotations
