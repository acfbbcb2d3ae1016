"""A judge of pictures by classical means: which coloured shapes a picture shows, and where."""

from superlink.workflows.eval.judge.seeing import Seen, background_color, see

__all__ = ["Seen", "background_color", "see"]
