"""Files of labels as a user has them, written from scenes, and systems that answer what the scenes hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from superlink.agents.asking import Question
from superlink.agents.pictures import read_picture
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Boxes, Keypoints, Masks
from superlink.decoders.coco import annotations_of
from superlink.workflows.data.shapes import Scene, SceneConfig, SceneObject
from superlink.workflows.data.shapes.people import KEYPOINT_NAMES

SIDE = 96
EVERY_TOKEN = ("[DET]", "[GRD]", "[SEG]", "[POSE]")
Answer = Callable[[Sequence[Question]], list[Turn]]
Items = Boxes | Masks | Keypoints


def scenes(count: int, *, shapes: tuple[str, ...] | None = None) -> list[Scene]:
    """Scenes in which at least two kinds of things are seen."""
    config = SceneConfig(height=SIDE, width=SIDE, other_canvas=0.0)
    found = (Scene.generate(seed, config) for seed in range(7000, 9000))
    fit = (one for one in found if len(groups_of(one)) > 1 and (not shapes or _has(one, shapes)))
    return [one for one, _ in zip(fit, range(count), strict=False)]


def _has(scene: Scene, shapes: tuple[str, ...]) -> bool:
    return all(scene.select(shape=shape) for shape in shapes)


def groups_of(scene: Scene) -> dict[str, list[SceneObject]]:
    """All objects by colour and shape, sorted as categories of a file are."""
    found: dict[str, list[SceneObject]] = {}
    for item in sorted(scene.objects, key=lambda item: f"{item.color} {item.shape}"):
        found.setdefault(f"{item.color} {item.shape}", []).append(item)
    return found


def save(folder: Path, drawn: Sequence[Scene]) -> list[dict[str, Any]]:
    """The pictures, and the list `images`."""
    for index, scene in enumerate(drawn, start=1):
        Image.fromarray(scene.image()).save(folder / f"{index}.png")
    return [
        {"id": index, "file_name": f"{index}.png", "height": SIDE, "width": SIDE}
        for index in range(1, len(drawn) + 1)
    ]


def write(path: Path, images: list[Any], rows: list[Any], categories: list[Any]) -> Path:
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def write_coco(folder: Path, drawn: Sequence[Scene]) -> Path:
    """Boxes and masks of everything."""
    names = sorted({name for scene in drawn for name in groups_of(scene)})
    rows: list[dict[str, Any]] = []
    for index, scene in enumerate(drawn, start=1):
        artifact = scene.masks(groups_of(scene))
        ids = [names.index(name) + 1 for name in artifact.names]
        rows += annotations_of(artifact, image_id=index, first_id=len(rows) + 1, category_ids=ids)
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return write(folder / "found.json", save(folder, drawn), rows, categories)


def write_refcoco(folder: Path, drawn: Sequence[Scene]) -> Path:
    """Two expressions for each thing that is alone of its kind."""
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for picture, scene in zip(save(folder, drawn), drawn, strict=True):
        for name, items in groups_of(scene).items():
            if len(items) == 1:
                expressions = [f"The {name}!", f"{name} in the picture"]
                images.append({**picture, "id": len(images) + 1, "expressions": expressions})
                rows += annotations_of(scene.boxes({name: items}), image_id=len(images), first_id=len(images))
    return write(folder / "referred.json", images, rows, [{"id": 1, "name": "thing"}])


def write_keypoints(folder: Path, drawn: Sequence[Scene]) -> Path:
    """Everybody's seventeen keypoints."""
    rows: list[dict[str, Any]] = []
    for index, scene in enumerate(drawn, start=1):
        people = scene.keypoints({"person": scene.select(shape="person")})
        rows += annotations_of(people, image_id=index, first_id=len(rows) + 1)
    person = {"id": 1, "name": "person", "keypoints": list(KEYPOINT_NAMES)}
    return write(folder / "people.json", save(folder, drawn), rows, [person])


def answering(drawn: Sequence[Scene], found: Callable[[Scene, Question], Items | None]) -> Answer:
    """A system that answers what `found` says of the scene that it is asked about."""
    by_picture: Mapping[str, Scene] = {read_picture(scene.image()).id: scene for scene in drawn}

    def answer(questions: Sequence[Question]) -> list[Turn]:
        turns = []
        for one in questions:
            assert one.picture is not None
            artifact = found(by_picture[one.picture.id], one)
            artifacts = () if artifact is None else (artifact,)
            turns.append(Turn(text="", raw="", artifacts=artifacts, image=one.picture))
        return turns

    return answer
