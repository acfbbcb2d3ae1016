"""Tasks about scenes beyond boxes and masks of phrases: language, keypoints, pictures, examples, rounds."""

from __future__ import annotations

from superlink.workflows.data.scene_tasks.captions import (
    caption,
    grounded_caption,
    recognition,
    region_caption,
)
from superlink.workflows.data.scene_tasks.changes import edit
from superlink.workflows.data.scene_tasks.compound import compound
from superlink.workflows.data.scene_tasks.examples import in_context
from superlink.workflows.data.scene_tasks.paintings import generate
from superlink.workflows.data.scene_tasks.poses import pose
from superlink.workflows.data.scene_tasks.prompts import interactive
from superlink.workflows.data.scene_tasks.questions import question
from superlink.workflows.data.scene_tasks.quizzes import quiz
from superlink.workflows.data.scene_tasks.rounds import follow_up
from superlink.workflows.data.scene_tasks.several import several
from superlink.workflows.data.scene_tasks.world import Teller, World

__all__ = ["SCENE_TASKS", "SPOKEN_TASKS", "Teller", "World"]

# By the names of their weights in `ShapesMix`.
SCENE_TASKS: dict[str, Teller] = {
    "vqa": question,
    "quiz": quiz,
    "caption": caption,
    "grounded_caption": grounded_caption,
    "region_caption": region_caption,
    "recognition": recognition,
    "pose": pose,
    "generate": generate,
    "edit": edit,
    "compose": compound,
    "several": several,
    "in_context": in_context,
    "interactive": interactive,
    "follow_up": follow_up,
}
# Those whose answer follows from the words alone.
SPOKEN_TASKS = frozenset(("pose", "generate", "edit", "compose", "several"))
