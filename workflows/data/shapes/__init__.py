"""The shapes world: pictures of coloured shapes and jointed people, with everything about them known."""

from superlink.workflows.data.shapes.colors import COLOR_NAMES
from superlink.workflows.data.shapes.figures import SHAPES
from superlink.workflows.data.shapes.layout import SceneConfig
from superlink.workflows.data.shapes.scene import EXTREMES, Extreme, Scene, SceneObject

__all__ = ["COLOR_NAMES", "EXTREMES", "SHAPES", "Extreme", "Scene", "SceneConfig", "SceneObject"]
