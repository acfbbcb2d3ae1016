"""`superlink ask`: what it prints, what it writes, how it fails."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result

from superlink import ask_command
from superlink.agents.model_folder import Model
from superlink.agents.system import System
from tests.superlink.conftest import Run, png_of, save_scene

FIND = "Find the red circle and outline the star."


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def one_error(result: Result) -> str:
    """The only line on stderr, which is an error in words."""
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("superlink: error: ")
    return line


def test_json_is_one_object_a_line_in_the_documented_form(run: Run, picture: Path) -> None:
    result = run("ask", str(picture), FIND, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    (line,) = lines_of(result)
    assert list(line) == ["image", "text", "failures", "artifacts", "timings"]
    assert line["image"] == str(picture)
    assert line["text"] == "Here: red circle, star."
    assert [(a["id"], a["type"], a["decoder"]) for a in line["artifacts"]] == [
        ("boxes-1", "boxes", "grounding_dino"),
        ("masks-1", "masks", "grounding_dino"),
    ]
    assert set(line["timings"]) == {"router", "grounding_dino"}


def test_several_pictures_are_answered_in_order_and_bad_ones_spare_the_others(
    run: Run, tmp_path: Path
) -> None:
    # More than one batch.
    names = [str(save_scene(tmp_path / f"{number}.png", seed=number)) for number in range(11)]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    names[2:2] = [str(tmp_path / "broken.png"), str(tmp_path / "missing.png")]
    names.append(str(tmp_path / "empty.png"))
    result = run("ask", *names, FIND, "--json")
    assert result.exit_code == 1
    lines = lines_of(result)
    assert [line["image"] for line in lines] == names
    for line in lines:
        bad = Path(line["image"]).stem in ("broken", "missing", "empty")
        assert ("error" in line) == bad
        assert len(line["artifacts"]) == (0 if bad else 2)
        assert list(line)[:5] == ["image", "text", "failures", "artifacts", "timings"]


def test_large_pictures_are_asked_in_smaller_batches(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(save_scene(tmp_path / f"{number}.png", number)) for number in range(5)]
    whole = lines_of(run("ask", *names, FIND, "--json"))
    sizes: list[int] = []
    ask = System.ask

    def counting(self: System, text: str, *, image: list[Any], **options: Any) -> Any:
        sizes.append(len(image))
        return ask(self, text, image=image, **options)

    monkeypatch.setattr(System, "ask", counting)
    monkeypatch.setattr(ask_command, "BATCH_PIXELS", 2 * 40 * 60)
    parted = lines_of(run("ask", *names, FIND, "--json"))
    assert sizes == [2, 2, 1]
    assert [line["image"] for line in parted] == names
    for one, other in zip(whole, parted, strict=True):
        assert one["artifacts"][0]["labels"] == other["artifacts"][0]["labels"]


def test_without_out_nothing_is_written(run: Run, picture: Path) -> None:
    run("ask", str(picture), FIND)
    run("ask", str(picture), FIND, "--json")
    assert [path.name for path in picture.parent.iterdir()] == ["scene.png"]


def test_out_holds_the_drawing_and_the_json_and_nothing_else(run: Run, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "today"
    result = run("ask", str(picture), FIND, "--json", "--out", str(out))
    assert sorted(path.name for path in out.iterdir()) == ["scene-drawn.png", "scene-turn.json"]
    with Image.open(out / "scene-drawn.png") as drawn:
        drawn.load()
    assert json.loads((out / "scene-turn.json").read_text()) == lines_of(result)[0]


def test_pictures_of_the_same_name_and_inputs_in_the_folder_are_not_overwritten(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    inputs = [
        save_scene(tmp_path / "scene.png"),
        save_scene(tmp_path / "a" / "scene.png", 1),
        save_scene(tmp_path / "other.png"),
        save_scene(tmp_path / "other-drawn.png"),
    ]
    before = [path.read_bytes() for path in inputs]
    assert run("ask", *map(str, inputs), FIND, "--out", str(tmp_path)).exit_code == 0
    assert [path.read_bytes() for path in inputs] == before
    assert {path.name for path in tmp_path.glob("*-turn.json")} == {
        "scene-turn.json",
        "scene-2-turn.json",
        "other-2-turn.json",
        "other-drawn-turn.json",
    }


def test_for_people_it_says_what_was_found_and_where_it_is_saved(
    run: Run, picture: Path, tmp_path: Path
) -> None:
    result = run("ask", str(picture), FIND, "--out", str(tmp_path / "out"))
    assert result.exit_code == 0
    for words in ("scene.png", "Here: red circle, star.", "red circle", "boxes-1", "scene-drawn.png"):
        assert words in result.stdout
    result = run("ask", str(picture), str(picture) + "x", FIND)
    assert result.exit_code == 1
    assert "does not exist" in result.stderr
    assert "boxes-1" in result.stdout


BAD_PICTURES = {
    "zero bytes": b"",
    "no picture": b"hello, I am a text",
    "truncated": png_of(Image.effect_noise((99, 99), 80))[:3000],
    "a hundred megapixels": png_of(Image.new("1", (10_000, 10_000))),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_a_picture_that_cannot_be_used_is_one_line(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(BAD_PICTURES[kind])
    assert repr(str(path)) in one_error(run("ask", str(path), FIND))
    (line,) = lines_of(run("ask", str(path), FIND, "--json"))
    assert "bad.png" in line["error"]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "I;16", "P", "1"])
def test_pictures_of_every_kind_are_answered(run: Run, tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("scene.tif" if mode == "CMYK" else "scene.png")
    Image.new(mode, (40, 30)).save(path)
    (line,) = lines_of(run("ask", str(path), FIND, "--json"))
    assert "error" not in line
    assert line["failures"] == []
    for artifact in line["artifacts"]:
        for x0, y0, x1, y1 in artifact.get("xyxy", []):
            assert 0 <= x0 <= x1 <= 40
            assert 0 <= y0 <= y1 <= 30


@pytest.mark.parametrize("text", ["", "   ", "word " * 10_000])
def test_an_instruction_that_cannot_be_used_is_one_line(run: Run, picture: Path, text: str) -> None:
    assert len(one_error(run("ask", str(picture), text))) < 300


@pytest.mark.parametrize("prompt", [("--point", "99,5"), ("--box", "70,0,90,20"), ("--box", "30,0,20,9")])
def test_prompts_outside_the_picture_are_one_line(run: Run, picture: Path, prompt: tuple[str, str]) -> None:
    assert len(one_error(run("ask", str(picture), "What is region1?", *prompt))) < 300


def test_prompts_inside_the_picture_are_taken(run: Run, picture: Path) -> None:
    result = run(
        "ask", str(picture), "What are these?", "--point", "3,4", "--point", "9,9.5", "--box", "0,0,30,20"
    )
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("only one",),
        ("scene.png", FIND, "--point", "3"),
        ("scene.png", FIND, "--point", "a,b"),
        ("scene.png", FIND, "--box", "1,2,3"),
        ("scene.png", FIND, "--threshold", "2"),
        ("scene.png", FIND, "--max-new-tokens", "0"),
        ("scene.png", FIND, "--engine", "steam"),
        ("scene.png", FIND, "--nonsense"),
    ],
)
def test_bad_usage_exits_with_two(run: Run, arguments: tuple[str, ...]) -> None:
    result = run("ask", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(run: Run, picture: Path) -> None:
    assert "is a file" in one_error(run("ask", str(picture), FIND, "--out", str(picture)))


def test_a_picture_that_its_decoder_does_not_know_spares_the_others(
    run: Run, picture: Path, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "DDS")
    data = bytearray(file.getvalue())
    data[80] = 0x80  # flags of a pixel format that there is not
    (tmp_path / "bad.dds").write_bytes(data)
    result = run("ask", str(tmp_path / "bad.dds"), str(picture), FIND, "--json")
    assert result.exit_code == 1
    bad, good = lines_of(result)
    assert "Unknown pixel format" in bad["error"]
    assert good["text"] == "Here: red circle, star."


def test_names_as_long_as_a_file_system_takes_are_saved(run: Run, tmp_path: Path) -> None:
    names = [f"{'n' * 248}.png", f"{'n' * 247}m.png", f"{'ü' * 122}.png"]
    paths = [str(save_scene(tmp_path / name)) for name in names]
    result = run("ask", *paths, FIND, "--json", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert [line["image"] for line in lines_of(result)] == paths
    assert len(list((tmp_path / "out").iterdir())) == 6


@pytest.mark.parametrize("json", [False, True])
def test_a_turn_that_cannot_be_saved_is_shown_and_spares_the_others(
    run: Run, tmp_path: Path, json: bool
) -> None:
    paths = [str(save_scene(tmp_path / f"{name}.png")) for name in "ab"]
    (tmp_path / "out" / "a-drawn.png").mkdir(parents=True)  # in the way of the first drawing
    arguments = ["ask", *paths, FIND, "--out", str(tmp_path / "out"), *["--json"] * json]
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout.count("Here: red circle, star.") == 2
    if json:
        first, second = lines_of(result)
        assert "cannot write" in first["error"]
        assert "error" not in second
    else:
        (line,) = result.stderr.splitlines()
        assert "cannot write" in line
    assert (tmp_path / "out" / "b-turn.json").is_file()


def test_an_answer_about_no_picture_that_cannot_be_saved_is_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "turn-turn.json").mkdir()
    result = run("ask", "--no-image", "Say something.", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert result.stdout.strip()


def test_a_failing_decoder_is_reported_and_the_words_stay(
    run: Run, picture: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no power")

    monkeypatch.setattr(type(model.decoders[0]), "prepare", failing)
    result = run("ask", str(picture), FIND, "--json")
    (line,) = lines_of(result)
    assert result.exit_code == 1
    assert line["text"] == "Here: red circle, star."
    assert {failure["error"] for failure in line["failures"]} == {"no power"}


def test_debug_shows_where_an_error_comes_from(run: Run, picture: Path) -> None:
    result = run("ask", str(picture), " ", "--debug")
    assert result.exception is not None
    assert "empty" in str(result.exception)
