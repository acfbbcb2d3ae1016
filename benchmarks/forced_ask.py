"""One `superlink ask` in which the router writes a given reply: a process of `benchmarks/ask.py`.

    python benchmarks/forced_ask.py INSTRUCTION --ids 7,8,9 [--image scene.png] [--model FOLDER]

Whatever the weights, the same model is opened in the same way, the router takes as many steps as the reply
has ids, and decoders get its links.
"""

from __future__ import annotations

import argparse

import superlink.cli  # noqa: F401  # what the command costs to start is part of what is measured
from superlink.agents.system import System
from superlink.ask_command import open_system, print_json
from superlink.router.requests import GenerateOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instruction")
    parser.add_argument("--ids", required=True, help="of the reply, with commas between them")
    parser.add_argument("--image")
    parser.add_argument("--model", default="tiny")
    given = parser.parse_args()
    forced = tuple(int(index) for index in given.ids.split(","))
    opened = open_system(given.model, "local")
    with System(opened.engine, name=opened.name, options=GenerateOptions(forced=forced)) as system:
        print_json(given.image or "", system.ask(given.instruction, image=given.image), {})


if __name__ == "__main__":
    main()
