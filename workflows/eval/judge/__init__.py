"""A judge of pictures by classical means: which coloured shapes a picture shows, and where."""

from superlink.workflows.eval.judge.seeing import Seen, see

__all__ = ["Seen", "see"]
