"""Look at every thing that was found again, closer up: python examples/detect_crop_describe.py scene.png"""

from __future__ import annotations

import sys
from pathlib import Path

from superlink import Image, Workflow, steps


def workflow() -> Workflow:
    """Circles, a crop of each, what the model says about it, and what else is found there."""
    wf = Workflow("detect_crop_describe")
    photo = wf.input("photo", Image)
    circles = steps.detect("circle")(photo)
    crops = steps.crop(scale=1.5)(photo, circles)  # one picture -> n crops
    stars = steps.detect("star")(crops)
    wf.output("words", steps.caption()(crops))
    wf.output("stars_near", steps.count()(stars))
    wf.output("stars", steps.merge(iou=0.5)(steps.uncrop()(stars, crops), image=photo))  # in the photo
    return wf


def main(path: str, *, model: str | Path = "tiny") -> None:
    found = workflow().using(system=model).invoke(path)
    for words, near in zip(found["words"], found["stars_near"], strict=True):
        print(f"{near} stars near it: {words}")
    print("stars in the photo:", found["stars"].xyxy.round().tolist())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).with_name("scene.png")))
