"""Find, outline the left one, change it, look again: examples/multi_round_edit.py [MODEL [PICTURE [OUT]]]

Plain Python around a session, no graph: each round builds on what the ones before it gave. The model needs
an editor, that is a decoder that answers [EDIT]. Further arguments: the picture, and the folder for results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import superlink as sl

SCENE = Path(__file__).with_name("scene.png")


def edit_left_one(session: sl.Session, picture: str, thing: str, change: str) -> sl.Turn:
    """Three rounds; the last one gives the changed picture, if all went well."""
    found = session.ask(f"Find every {thing}.", image=picture)
    show(found)
    if not len(found.boxes):
        return found
    left = found.boxes.select([int(found.boxes.xyxy[:, 0].argmin())])
    outlined = session.ask(f"Segment the {thing} on the left.", refs=[left])
    show(outlined)
    # No outline is no reason to stop: the box says as well which one is meant.
    changed = session.ask(change, refs=[outlined.masks if len(outlined.masks) else left])
    show(changed)
    return changed


def show(turn: sl.Turn) -> None:
    print(f"{turn.round}. {turn.text}")
    for artifact in turn.artifacts:
        items = f": {len(artifact)}" if isinstance(artifact, sl.Boxes | sl.Masks) else ""
        print(f"   {artifact.origin.id}{items}")
    for failure in turn.failures:
        print(f"   {failure.call_id} failed: {failure.error}")


def has_editor(system: sl.System) -> bool:
    return any(route.token.text == "[EDIT]" for config in system.decoders for route in config.routes)


def run(system: sl.System, picture: str, out: str | Path, thing: str = "star") -> sl.Session:
    """All rounds; what was made is in `out`, and so is the session."""
    session = system.session()
    changed = edit_left_one(session, picture, thing, f"Make the {thing} on the left green.")
    if changed.picture is None:
        print("There is no changed picture; the rounds above say how far it came.")
    else:
        print(changed.picture.save(Path(out) / "changed.png"))
    session.save(Path(out) / "talk")

    later = system.session(Path(out) / "talk")  # tomorrow, in another process
    show(later.ask(f"Find every {thing}."))  # on the picture that was changed
    if len(later.turns[0].boxes):
        again = later.ask("Remove the background.", refs=[later.artifact("boxes-1")])  # on the first picture
        show(again)
        if again.picture is not None:
            print(again.picture.save(Path(out) / "again.png"))
    return later


def main(model: str = "tiny", picture: str = str(SCENE), out: str = "edited") -> None:
    with sl.load(model) as system:
        if not has_editor(system):
            raise SystemExit(f"the model {model!r} has no editor: none of its decoders answers [EDIT]")
        run(system, picture, out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
