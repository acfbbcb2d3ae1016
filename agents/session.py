"""A session: rounds of questions about pictures, each building on what came before.

The router reads the whole conversation, its own earlier replies included, so "the largest of
them" can be understood; `refs` hands earlier artifacts to the decoders themselves. A picture that a
round made is what the next one is about: "now make the star green".
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Self

from superlink.agents.asking import Question, answer, kind_of
from superlink.agents.engine import Engine
from superlink.agents.options import DecoderOptions, checked_options
from superlink.agents.pictures import PictureLike, SourcePicture, picture_id, read_picture
from superlink.agents.questions import (
    Example,
    checked_deadline,
    checked_prompts,
    checked_refs,
    checked_threshold,
    example_messages,
    reply_options,
    user_message,
)
from superlink.agents.regions import Region, region_input, region_names
from superlink.agents.saved_session import SessionState, read_session, write_session
from superlink.agents.session_export import export_session
from superlink.agents.session_store import Round, SessionStore, checked_name, is_round
from superlink.agents.turn import Turn
from superlink.decoders.artifacts import Artifact, Boxes, Keypoints, Masks, Picture
from superlink.router.errors import InputError
from superlink.router.messages import Message, Prompt
from superlink.router.requests import GenerateOptions


class Session:
    """Rounds with one system. Not for several threads at once; sessions share an engine freely."""

    def __init__(self, engine: Engine, *, options: GenerateOptions | None = None) -> None:
        self._engine = engine
        self._options = options or GenerateOptions()
        self._state = SessionState()
        self._store: SessionStore | None = None
        self._saved = 0  # how many rounds the store has
        self.name: str | None = None  # in its store; None for a session that no store keeps

    @classmethod
    def stored(
        cls, name: str, store: SessionStore, engine: Engine, *, options: GenerateOptions | None = None
    ) -> Self:
        """The session of that name, which is begun where there is none; every round is saved at once.

        Raises:
            InputError: no such name can be given, it is damaged, or the store cannot be read.
        """
        if not isinstance(store, SessionStore):
            raise InputError(f"a store is a SessionStore(path), got {type(store).__name__}")
        checked_name(name)  # before a question is answered that could not be saved
        session = cls(engine, options=options)
        if name in store:
            session._state = store.read(name)
        session._store, session.name, session._saved = store, name, len(session._state.turns)
        return session

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], engine: Engine, *, options: GenerateOptions | None = None
    ) -> Self:
        """Go on with a session that was saved, on any engine of the same model.

        Raises:
            InputError: there is no session in the folder, or it is damaged.
        """
        session = cls(engine, options=options)
        session._state = read_session(folder)
        return session

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the whole session: `session.json` and its pictures as PNG, by content hash.

        An earlier state of a session in that folder is replaced, whole or not at all.

        Raises:
            InputError: the folder holds other things, or cannot be written.
        """
        write_session(self._state, folder)

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write the session for people to read: `talk.md` with drawings, beside what `save` writes.

        Returns:
            Where `talk.md` is.

        Raises:
            InputError: the folder holds other things, or cannot be written.
        """
        return export_session(self._state, folder)

    def fork(self, at: int | Turn | None = None, *, name: str | None = None) -> Self:
        """Another session that begins as this one did; both go on on their own.

        Args:
            at: the last round that it takes along, as a turn or its number (0 = none); all by default.
            name: under which this session's store keeps it; without one it is kept nowhere.

        Raises:
            InputError: no such round, a name that is taken, or one although no store keeps this session.
        """
        if name is not None and self._store is None:
            raise InputError("no store keeps this session, so a fork of it has no name; use save(folder)")
        if name is not None:
            checked_name(name)
        if isinstance(at, Turn) and not any(turn is at for turn in self._state.turns):
            raise InputError(
                "this turn is not of this session; pass one of its turns, or the number of a round"
            )
        rounds = at.round if isinstance(at, Turn) else len(self._state.turns) if at is None else at
        if not is_round(rounds, least=0, most=len(self._state.turns)):
            raise InputError(
                f"this session has {len(self._state.turns)} rounds, it cannot be forked at {rounds!r}"
            )
        session = type(self)(self._engine, options=self._options)
        session._state = self._state.until(rounds)
        if name is not None and self._store is not None:
            if name in self._store:
                raise InputError(f"there is a session {name!r} already; choose another name")
            session._store, session.name = self._store, name
            session._keep()
        return session

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Every round so far, oldest first."""
        return tuple(self._state.turns)

    @property
    def picture(self) -> SourcePicture | None:
        """What the next question is about, unless it brings a picture of its own."""
        return self._state.pictures.get(self._state.current)

    @property
    def region_count(self) -> int:
        """How many prompts were given so far: the next one is called by the number after it."""
        return len(self._state.prompt_pictures)

    def artifact(self, name: str) -> Artifact:
        """The artifact of an earlier round that is called `name`, such as "boxes-1".

        Raises:
            InputError: there is none.
        """
        found = {one.origin.id: one for turn in self._state.turns for one in turn.artifacts}
        if name not in found:
            raise InputError(f"no artifact {name!r} in this session; there are {', '.join(found) or 'none'}")
        return found[name]

    def ask(
        self,
        text: str,
        *,
        image: PictureLike | None = None,
        prompts: Sequence[Prompt] = (),
        refs: Sequence[Artifact] = (),
        examples: Sequence[Example] = (),
        options: DecoderOptions | None = None,
        threshold: float | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        deadline: float | None = None,
    ) -> Turn:
        """Ask the next question.

        Args:
            text: the instruction.
            image: a picture; without one the question is about the picture that `refs` speak of, else
                about the last one that was shown or made.
            prompts: points, boxes, scribbles and masks on the picture, which the text calls
                "region1", "region2" and so on, counted through the whole session.
            refs: artifacts of earlier rounds, all on one picture, that the answer builds on; or a
                picture that was made.
            examples: pictures with a mask on each of what is meant by "the same kind"; they count as
                regions, before those of `prompts`.
            options: of single decoders, in place of their configuration:
                {"stable_diffusion": {"steps": 20}}.
            threshold: least score of an item in 0..1; by default the decoder's own.
            seed: of everything random.
            max_new_tokens: longest reply.
            deadline: seconds for the whole turn; what is not there by then becomes a failure.

        Raises:
            InputError: something given cannot be used; the session is as it was before. Or the store
                cannot save the round, which is the last of `turns` then and is saved with the next one.
        """
        state, prompts = self._state, checked_prompts(prompts)
        picture = self._looked_at(refs) if image is None else read_picture(image)
        shown = example_messages(examples)
        before = (*state.messages, *shown)
        # After examples the picture that was last seen is the last example's.
        last = "" if shown else state.shown
        message = user_message(text, picture=picture, shown=last, prompts=prompts)
        request = Question(
            conversation=(*before, message),
            picture=picture,
            refs=checked_refs(refs, picture),
            regions=self._regions(before, message, picture),
            options=checked_options(options, self._engine.decoders),
            threshold=checked_threshold(threshold),
            deadline=checked_deadline(deadline),
            round=len(state.turns) + 1,
            taken=Counter(kind_of(one) for turn in state.turns for one in turn.artifacts),
        )
        written = reply_options(self._options, seed=seed, max_new_tokens=max_new_tokens)
        (turn,) = answer(self._engine, [request], written)
        state.remember((*shown, message), turn)
        self._keep()
        return turn

    def _looked_at(self, refs: Sequence[Artifact]) -> SourcePicture | None:
        """What a question without a picture of its own is about."""
        for ref in refs if isinstance(refs, list | tuple) else ():  # else refused in a moment
            if isinstance(ref, Picture):
                made = picture_id(ref.pixels)
                new = SourcePicture(pixels=ref.pixels, id=made, name=ref.origin.id)
                return self._state.pictures.get(made, new)
            if isinstance(ref, Boxes | Masks | Keypoints) and ref.origin.source in self._state.pictures:
                return self._state.pictures[ref.origin.source]
        return self.picture

    def _regions(
        self, before: Sequence[Message], message: Message, picture: SourcePicture | None
    ) -> dict[str, Region]:
        """All prompts of the session that lie on `picture`, those of `message` included."""
        if picture is None:
            return {}
        earlier = [prompt for one in self._state.messages for prompt in one.prompts]
        drawn = zip(region_names((), len(earlier)), earlier, self._state.prompt_pictures, strict=True)
        regions = {name: prompt for name, prompt, source in drawn if source == picture.id}
        regions |= zip(region_names(before, len(message.prompts)), message.prompts, strict=True)
        return {name: region_input(prompt, name, picture.size) for name, prompt in regions.items()}

    def _keep(self) -> None:
        """Save the rounds that the store does not have yet: one, unless saving failed before."""
        if self._store is None or self.name is None:
            return
        new = [Round(asked=asked, turn=turn) for asked, turn in [*self._state.rounds()][self._saved :]]
        self._state.row = self._store.append(self.name, self._saved + 1, new, self._state.row)
        self._saved += len(new)
