"""A system: a router, its decoders and the engine that runs them, ready for questions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from typing_extensions import Self

from superlink.agents.asking import Question, answer, answer_all, failed
from superlink.agents.embedded import model_folder
from superlink.agents.engine import Engine, Startable
from superlink.agents.options import DecoderOptions, checked_options
from superlink.agents.pictures import PictureLike, SourcePicture, read_picture
from superlink.agents.questions import (
    Example,
    checked_deadline,
    checked_prompts,
    checked_threshold,
    example_messages,
    reply_options,
    user_message,
)
from superlink.agents.regions import region_input, region_names
from superlink.agents.session import Session
from superlink.agents.session_store import SessionStore
from superlink.agents.status import SystemStatus
from superlink.agents.turn import Turn
from superlink.decoders.contract import DecoderConfig
from superlink.router.errors import InputError
from superlink.router.messages import Prompt
from superlink.router.requests import GenerateOptions

if TYPE_CHECKING:
    from superlink.agents.chat_model import SystemChatModel
    from superlink.agents.tools.budget import Budget
    from superlink.agents.tools.langchain import SystemTool
    from superlink.agents.tools.toolbox import Toolbox

Texts = list[str] | tuple[str, ...]
Images = list[PictureLike] | tuple[PictureLike, ...]


class System:
    """Ask it once with `ask`, over several rounds with `session`. Safe to use from many threads."""

    def __init__(self, engine: Engine, *, name: str = "", options: GenerateOptions | None = None) -> None:
        self.engine = engine
        self.name = name
        self._options = options or GenerateOptions()

    @property
    def decoders(self) -> tuple[DecoderConfig, ...]:
        """The decoders; their routes say which routing token each one answers."""
        return self.engine.decoders

    def session(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        store: SessionStore | None = None,
    ) -> Session:
        """A conversation without any rounds yet, the one that was saved in `folder`, or the one of a name.

        Args:
            folder: that `Session.save` wrote.
            name: of a session that is saved after every round, and is gone on with where there is one.
            store: where it is kept; by default in the user's data folder.

        Raises:
            InputError: there is no session in the folder, or it is damaged; or a folder and a name.
        """
        if name is not None:
            if folder is not None:
                raise InputError("a session is that of a folder or that of a name, not both")
            return Session.stored(name, store or SessionStore(), self.engine, options=self._options)
        if store is not None:
            raise InputError("a store keeps sessions by name; pass name= too")
        if folder is None:
            return Session(self.engine, options=self._options)
        return Session.load(folder, self.engine, options=self._options)

    @overload
    def ask(
        self,
        text: str,
        *,
        image: PictureLike | None = None,
        prompts: Sequence[Prompt] = (),
        examples: Sequence[Example] = (),
        options: DecoderOptions | None = None,
        threshold: float | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        deadline: float | None = None,
    ) -> Turn: ...

    @overload
    def ask(
        self,
        text: str | Texts,
        *,
        image: Images,
        prompts: Sequence[Prompt] = (),
        examples: Sequence[Example] = (),
        options: DecoderOptions | None = None,
        threshold: float | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        deadline: float | None = None,
    ) -> list[Turn]: ...

    @overload
    def ask(
        self,
        text: Texts,
        *,
        image: PictureLike | None = None,
        prompts: Sequence[Prompt] = (),
        examples: Sequence[Example] = (),
        options: DecoderOptions | None = None,
        threshold: float | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        deadline: float | None = None,
    ) -> list[Turn]: ...

    def ask(
        self,
        text: str | Texts,
        *,
        image: PictureLike | Images | None = None,
        prompts: Sequence[Prompt] = (),
        examples: Sequence[Example] = (),
        options: DecoderOptions | None = None,
        threshold: float | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        deadline: float | None = None,
    ) -> Turn | list[Turn]:
        """Ask once, outside any conversation.

        A list of texts or of images is one batch and gives a list of turns; a single text or image
        beside a list goes with each of its items. In a list, an item that cannot be used gives a
        turn with an `error`, and the others are answered.

        Args:
            text: the instruction.
            image: a path, the bytes of a file, a Pillow image or an array.
            prompts: points, boxes, scribbles and masks, which the text calls "region1", ...
            examples: pictures with a mask on each of what is meant by "the same kind"; they count as
                regions, before those of `prompts`.
            options: of single decoders, in place of their configuration:
                {"stable_diffusion": {"steps": 20}}.
            threshold: least score of an item in 0..1; by default the decoder's own.
            seed: of everything random.
            max_new_tokens: longest reply.
            deadline: seconds for everything; what is not there by then becomes a failure.

        Raises:
            InputError: something given cannot be used.
        """
        written = reply_options(self._options, seed=seed, max_new_tokens=max_new_tokens)
        threshold, deadline = checked_threshold(threshold), checked_deadline(deadline)
        own = checked_options(options, self.decoders)
        shown, prompts = example_messages(examples), checked_prompts(prompts)
        names = region_names(shown, len(prompts))

        def request(one: str, picture: SourcePicture | None) -> Question:
            message = user_message(one, picture=picture, prompts=prompts)
            size = (0, 0) if picture is None else picture.size
            return Question(
                conversation=(*shown, message),
                picture=picture,
                regions={
                    name: region_input(prompt, name, size)
                    for name, prompt in zip(names, prompts, strict=True)
                },
                options=own,
                threshold=threshold,
                deadline=deadline,
            )

        if not isinstance(text, list | tuple) and not isinstance(image, list | tuple):
            picture = None if image is None else read_picture(image)
            return answer(self.engine, [request(text, picture)], written)[0]
        turns: dict[int, Turn] = {}
        requests: dict[int, Question] = {}
        for place, (one, given) in enumerate(_paired(text, image)):
            picture = None
            try:
                picture = None if given is None else read_picture(given)
                requests[place] = request(one, picture)
            except InputError as error:
                turns[place] = failed(picture, str(error))
        answered = answer_all(self.engine, list(requests.values()), written)
        turns.update(zip(requests, answered, strict=True))
        return [turns[place] for place in sorted(turns)]

    @property
    def options(self) -> GenerateOptions:
        """How replies are written where a question says nothing else."""
        return self._options

    def as_tool(self, name: str, *, toolbox: Toolbox | None = None) -> SystemTool:
        """A tool for agents of LangChain: "detect", "ground", "segment", "pose", "count", "generate",
        "edit", "caption", "ask" or "instruct".

        Args:
            name: of the tool.
            toolbox: whose pictures and results it shares with other tools; by default an empty one of
                its own, to be filled with `tool.toolbox.add(picture)`.

        Raises:
            InputError: no such tool, no decoder for it, or a toolbox of another system.
        """
        from superlink.agents.tools.toolbox import Toolbox

        if toolbox is not None and not isinstance(toolbox, Toolbox):
            raise InputError(f"a toolbox is made with Toolbox(system), got {type(toolbox).__name__}")
        if toolbox is not None and toolbox.system is not self:
            raise InputError("the toolbox belongs to another system; make one with Toolbox(system)")
        return (toolbox or Toolbox(self)).tool(name)

    def tools(
        self, *, pictures: Sequence[PictureLike] = (), budget: Budget | None = None
    ) -> list[SystemTool]:
        """Every tool that there are decoders for, over one new toolbox.

        Args:
            pictures: what the tools know as "picture-1", "picture-2", ...
            budget: of all calls together.

        Raises:
            InputError: a picture cannot be read.
        """
        from superlink.agents.tools.toolbox import Toolbox

        return Toolbox(self, pictures=pictures, budget=budget).tools()

    def as_chat_model(self, **settings: Any) -> SystemChatModel:
        """A chat model of LangChain that takes pictures and reports artifacts.

        Args:
            settings: fields of `SystemChatModel`, such as `max_tokens`, `temperature`, `seed`, `stop`.

        Raises:
            InputError: a setting that cannot be used.
        """
        from superlink.agents.chat_model import SystemChatModel

        return SystemChatModel.of(self, **settings)

    def status(self) -> SystemStatus:
        """Queue lengths, batch sizes and times of the router and every decoder, right now."""
        return self.engine.status()

    def close(self) -> None:
        """Give back what the engine holds; the system cannot be used afterwards."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _paired(text: str | Texts, image: PictureLike | Images | None) -> list[tuple[str, PictureLike | None]]:
    texts = list(text) if isinstance(text, list | tuple) else None
    images = list(image) if isinstance(image, list | tuple) else None
    if texts is not None and images is not None and len(texts) != len(images):
        raise InputError(f"{len(texts)} texts do not pair with {len(images)} images; pass as many of each")
    if texts is None:
        assert images is not None
        if not isinstance(text, str):
            raise InputError(f"an instruction is a string or a list of them, got {type(text).__name__}")
        return [(text, one) for one in images]
    if images is None:
        assert not isinstance(image, list | tuple)
        return [(one, image) for one in texts]
    return list(zip(texts, images, strict=True))


def load(
    model: str | os.PathLike[str] = "tiny",
    *,
    engine: str | Startable = "local",
    decoders: Sequence[type[DecoderConfig]] = (),
    device: str = "cpu",
    threads: int | None = None,
) -> System:
    """A system, ready to be asked.

    Args:
        model: the name of an embedded model, a model folder, or "owner/name" of one on the Hugging Face Hub.
        engine: where it runs; "local" = in this process, "ray" = actors on the Ray cluster that this
            process is connected to, or on a runtime of this machine; `RayEngine` says more.
        decoders: configuration classes of decoders that are not part of this package.
        device: where the local engine keeps the weights; elsewhere the placement says it.
        threads: that torch uses in this process; None leaves them as they are.

    Raises:
        ModelError: no such model, or a folder that does not fit together.
        InputError: no such engine, or no such device here.
    """
    if engine not in ("local", "ray") and isinstance(engine, str):
        raise InputError(f"no engine {engine!r}; use 'local', 'ray' or a RayEngine")
    folder = model_folder(model)
    if engine == "ray":
        from superlink.agents.ray.engine import RayEngine

        engine = RayEngine()
    if not isinstance(engine, str):
        from superlink.agents.model_folder import model_name

        return System(engine.start(folder, decoders=decoders), name=model_name(folder))
    import torch

    from superlink.agents.local import LocalEngine
    from superlink.agents.model_folder import load_model
    from superlink.router.devices import check_device

    if threads is not None:
        torch.set_num_threads(threads)
    check_device(device)
    loaded = load_model(folder, decoders=decoders, device=device)
    return System(LocalEngine(loaded), name=loaded.name)
