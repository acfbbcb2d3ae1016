"""What `superlink chat` does: one session, a question a line, from a terminal or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from superlink.agents.pictures import SourcePicture, read_picture
from superlink.ask_command import open_system, print_json, print_text, waiting
from superlink.router.errors import InputError

if TYPE_CHECKING:
    from superlink.agents.session import Session

HELP = """\
Type a question, for example: Find every red circle.
Later questions may speak of earlier answers: Outline the largest of them.

  /image PATH   talk about another picture
  /save [DIR]   write the last answer: drawn picture and JSON
  /help         this list
  /quit         leave (so does the end of input)
"""


@dataclass(slots=True)
class _Chat:
    session: Session
    out: Path
    json: bool
    threshold: float | None
    seed: int
    max_new_tokens: int | None
    next_picture: SourcePicture | None = None

    def command(self, line: str) -> bool:
        """Do what a line beginning with "/" says; False = leave.

        Raises:
            InputError: no such command, or it cannot be done.
        """
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word in ("/quit", "/exit"):
            return False
        if word == "/help":
            self.tell(HELP.rstrip())
        elif word == "/image":
            if not rest:
                raise InputError("/image needs a path: /image scene.png")
            self.next_picture = read_picture(rest)
            height, width = self.next_picture.size
            self.tell(f"now about {rest}, {width} x {height} pixels")
        elif word == "/save":
            self.save(Path(rest) if rest else self.out)
        else:
            raise InputError(f"no command {word!r}; /help lists them")
        return True

    def save(self, folder: Path) -> None:
        if not self.session.turns:
            raise InputError("nothing to save yet; ask something first")
        turn = self.session.turns[-1]
        name = "chat" if turn.image is None else Path(turn.image.name).stem or "chat"
        saved = turn.save(folder, stem=f"{name}-{turn.round}")
        self.tell("\n".join(f"{what}: {path}" for what, path in saved.items()))

    def ask(self, text: str) -> bool:
        """Ask and print; False = a decoder failed."""
        with waiting("asking"):
            turn = self.session.ask(
                text,
                image=self.next_picture,
                threshold=self.threshold,
                seed=self.seed,
                max_new_tokens=self.max_new_tokens,
            )
        self.next_picture = None
        show = print_json if self.json else print_text
        show("" if turn.image is None else turn.image.name, turn, {})
        return not turn.failures

    def tell(self, words: str) -> None:
        # Next to JSON, words for people go to stderr.
        stream = sys.stderr if self.json else sys.stdout
        stream.write(words + "\n")
        stream.flush()


def run(
    *,
    image: str | None,
    model: str,
    engine: str,
    json: bool,
    out: Path,
    threshold: float | None,
    seed: int,
    max_new_tokens: int | None,
) -> int:
    """Talk until the end of input.

    Returns:
        How many lines could not be answered, where nobody was there to see it and try again;
        0 on a terminal.

    Raises:
        SuperlinkError: the first picture or the model cannot be used.
    """
    picture = None if image is None else read_picture(image)
    system = open_system(model, engine)
    chat = _Chat(system.session(), out, json, threshold, seed, max_new_tokens, picture)
    typed = sys.stdin.isatty()
    if typed:
        chat.tell("Ask about the picture; /help lists commands, /quit leaves.")
    failures = 0
    try:
        for line in _lines(typed=typed):
            try:
                if line.startswith("/"):
                    if not chat.command(line):
                        break
                else:
                    failures += not chat.ask(line)
            except InputError as error:
                failures += 1
                if json and not line.startswith("/"):
                    print_json(chat.session.picture.name if chat.session.picture else "", str(error), {})
                else:
                    sys.stderr.write(f"superlink: error: {error}\n")
    except KeyboardInterrupt:
        chat.tell("")
    finally:
        system.close()
    return 0 if typed else failures


def _lines(*, typed: bool) -> Iterator[str]:
    """Lines of standard input without blank ones."""
    if not typed:
        for line in sys.stdin:
            if line.strip():
                yield line.strip()
        return
    import readline  # noqa: F401  # gives `input` a history and arrow keys

    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            sys.stdout.write("\n")
            return
        if line:
            yield line
