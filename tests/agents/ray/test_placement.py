from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from superlink.agents.ray.placement import DecoderPlacement, Placement, RouterPlacement
from superlink.router.errors import InputError


def test_a_file_says_what_holds_for_all_and_for_one(tmp_path: Path) -> None:
    path = tmp_path / "place.yaml"
    path.write_text(
        "decoder: {timeout: 30, num_cpus: 0.5}\n"
        "decoders:\n  sam: {replicas: 2, num_gpus: 0.5}\n"
        "router: {num_gpus: 1, max_rows: 32}\n"
    )
    place = Placement.read(path)
    assert place.of("sam") == DecoderPlacement(timeout=30, num_cpus=0.5, replicas=2, num_gpus=0.5)
    assert place.of("grounding_dino") == DecoderPlacement(timeout=30, num_cpus=0.5)
    assert place.router == RouterPlacement(num_gpus=1, max_rows=32)
    assert (place.of("sam").device, place.of("unipose").device) == ("cuda", "cpu")
    assert place.num_cpus(["sam", "unipose"]) == 0.25 + 2 * 0.5 + 0.5


def test_json_goes_both_ways() -> None:
    place = Placement(decoders={"sam": DecoderPlacement(resources={"node_a": 0.1}, max_restarts=-1)})
    assert Placement.from_json(json.loads(json.dumps(place.to_json()))) == place


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"decoder": {"replicas": 0}}, "replicas is a whole number from 1, got 0"),
        ({"decoder": {"replicas": True}}, "replicas"),
        ({"decoder": {"max_batch": 2.5}}, "max_batch"),
        ({"decoder": {"timeout": 0}}, "timeout is a number of seconds above 0"),
        ({"decoder": {"timeout": 1e300}}, "timeout is a number of seconds above 0 and up to 1e"),
        ({"decoder": {"timeout": float("nan")}}, "timeout"),
        ({"decoder": {"timeout": "soon"}}, "timeout"),
        ({"decoder": {"num_cpus": -1}}, "num_cpus is a number from 0"),
        ({"router": {"num_gpus": 1.5}}, "num_gpus above 1 is a whole number"),
        ({"router": {"max_restarts": -2}}, "max_restarts"),
        ({"router": {"max_batch": 4}}, "router has no 'max_batch'"),
        ({"router": {"resources": {"node": "all"}}}, "resources are amounts by name"),
        ({"router": {"spread": "yes"}}, "spread is true or false"),
        ({"routers": {}}, "placement has no 'routers'; it has router, decoder, decoders"),
        ({"decoders": ["sam"]}, "decoders are given by their names"),
        ({"decoders": {"sam": 2}}, "decoders.sam is given by names"),
    ],
)
def test_nonsense_is_one_clear_line(data: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("[", r"\[")) as caught:
        Placement.from_json(data)
    assert "\n" not in str(caught.value)


def test_a_place_for_a_decoder_that_is_not_there_names_those_that_are() -> None:
    place = Placement(decoders={"sams": DecoderPlacement()})
    with pytest.raises(InputError, match="no decoder 'sams' in this model; there are sam, unipose"):
        place.check(["sam", "unipose"])


@pytest.mark.parametrize("text", ["router: [", "- 1", "\x00"])
def test_a_file_that_is_no_placement_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "place.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="placement"):
        Placement.read(path)
    with pytest.raises(InputError, match=r"missing\.yaml"):
        Placement.read(tmp_path / "missing.yaml")
