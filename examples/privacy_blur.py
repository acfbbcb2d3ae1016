"""Blur people in a picture: python examples/privacy_blur.py photo.png blurred.png

Without arguments, the stars of examples/scene.png, which shows no people.
"""

from __future__ import annotations

import sys
from pathlib import Path

from superlink import Image, Workflow, steps

SCENE = str(Path(__file__).with_name("scene.png"))


def workflow(phrase: str = "person") -> Workflow:
    """The picture in which what is meant cannot be made out, and how many there were."""
    wf = Workflow("privacy_blur")
    photo = wf.input("photo", Image)
    people = steps.detect(phrase)(photo)
    wf.output("number", steps.count()(people))
    wf.output("blurred", steps.mask_out("blur", strength=12)(photo, people))
    return wf


def main(
    path: str = SCENE, out: str = "blurred.png", *, phrase: str = "person", model: str | Path = "tiny"
) -> None:
    found = workflow(phrase).using(system=model).invoke(path)
    print(found["blurred"].save(out), "hides", found["number"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(*sys.argv[1:3])
    else:
        main(phrase="star")
