"""The graph of a workflow as Mermaid text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from superlink.decoders.artifacts import Origin, Picture
from superlink.workflows.graph.checking import Checked, check
from superlink.workflows.graph.definition import Graph
from superlink.workflows.graph.flatten import Constant
from superlink.workflows.graph.port_types import name_of

_FILL = {"input": "#dcecff", "step": "#f4f4f4", "output": "#dff3df"}
_LINE, _INK = "#506070", "#202830"
_PADDING, _GAP_X, _GAP_Y, _MARGIN = 10, 28, 44, 24


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """One node of the drawing."""

    id: str
    kind: str  # "input" | "step" | "output"
    lines: tuple[str, ...]
    layer: int


@dataclass(frozen=True, slots=True)
class _Edge:
    start: str
    end: str
    label: str
    nested: bool  # items of a list go along, one by one


def mermaid(graph: Graph) -> str:
    """A Mermaid flowchart; thick arrows carry nested items.

    Raises:
        WorkflowError: the definition is wrong.
    """
    boxes, edges = _layout(check(graph))
    shapes = {"input": ("([", "])"), "step": ("[", "]"), "output": ("[[", "]]")}
    lines = ["flowchart TD"]
    for box in boxes:
        start, end = shapes[box.kind]
        text = "<br/>".join(line.replace('"', "#quot;").replace("<", "&lt;") for line in box.lines)
        lines.append(f'    {box.id}{start}"{text}"{end}')
    for edge in edges:
        arrow = "==>" if edge.nested else "-->"
        lines.append(f"    {edge.start} {arrow}|{edge.label}| {edge.end}")
    return "\n".join(lines) + "\n"


def picture(graph: Graph) -> Picture:
    """The graph in layers from top to bottom.

    Raises:
        WorkflowError: the definition is wrong.
    """
    boxes, edges = _layout(check(graph))
    font = ImageFont.load_default(14)
    ruler = ImageDraw.Draw(Pillow.new("RGB", (1, 1)))
    sizes = {}
    for box in boxes:
        left, top, right, bottom = ruler.multiline_textbbox((0, 0), "\n".join(box.lines), font=font)
        sizes[box.id] = (int(right - left) + 2 * _PADDING, int(bottom - top) + 2 * _PADDING)
    layers: dict[int, list[_Box]] = {}
    for box in boxes:
        layers.setdefault(box.layer, []).append(box)
    widths = {layer: sum(sizes[box.id][0] + _GAP_X for box in row) - _GAP_X for layer, row in layers.items()}
    widest = max(widths.values(), default=0)
    places: dict[str, tuple[int, int, int, int]] = {}
    y = _MARGIN
    for layer in sorted(layers):
        x = _MARGIN + (widest - widths[layer]) // 2
        for box in layers[layer]:
            width, height = sizes[box.id]
            places[box.id] = (x, y, x + width, y + height)
            x += width + _GAP_X
        y += max(sizes[box.id][1] for box in layers[layer]) + _GAP_Y
    canvas = Pillow.new("RGB", (widest + 2 * _MARGIN, max(1, y - _GAP_Y + _MARGIN)), "white")
    pen = ImageDraw.Draw(canvas)
    for edge in edges:
        _arrow(pen, places[edge.start], places[edge.end], width=3 if edge.nested else 1)
    for box in boxes:
        place = places[box.id]
        pen.rounded_rectangle(place, radius=6, fill=_FILL[box.kind], outline=_LINE)
        corner = (place[0] + _PADDING, place[1] + _PADDING)
        pen.multiline_text(corner, "\n".join(box.lines), fill=_INK, font=font)
    return Picture(pixels=np.asarray(canvas), origin=Origin(id="graph"))


def _arrow(
    pen: ImageDraw.ImageDraw, start: tuple[int, int, int, int], end: tuple[int, int, int, int], *, width: int
) -> None:
    """From the lower side of one box to the upper side of another."""
    x0, y0 = (start[0] + start[2]) / 2, start[3]
    x1, y1 = (end[0] + end[2]) / 2, end[1]
    pen.line([(x0, y0), (x1, y1 - 5)], fill=_LINE, width=width)
    pen.polygon([(x1, y1), (x1 - 5, y1 - 8), (x1 + 5, y1 - 8)], fill=_LINE)


def _layout(checked: Checked) -> tuple[list[_Box], list[_Edge]]:
    """Boxes with their layers, each below everything that it builds on, and what joins them."""
    ids: dict[int, str] = {}
    layer: dict[int, int] = {}
    boxes: list[_Box] = []
    edges: list[_Edge] = []
    for node in checked.inputs:
        ids[id(node)], layer[id(node)] = f"n{len(boxes)}", 0
        boxes.append(_Box(ids[id(node)], "input", (node.name, name_of(node.type)), 0))
    for one in checked.steps:
        flat = one.flat
        sources = [
            (bound.port.name, bound.source) for bound in flat.bound if not isinstance(bound.source, Constant)
        ]
        layer[id(flat)] = 1 + max((layer[id(source)] for _, source in sources), default=0)
        ids[id(flat)] = f"n{len(boxes)}"
        kind = flat.step.kind
        lines = (flat.name, *([kind] if kind != flat.name else []), *_said(flat.step.parameters))
        boxes.append(_Box(ids[id(flat)], "step", lines, layer[id(flat)]))
        edges += [
            _Edge(ids[id(source)], ids[id(flat)], port, bool(checked.lineages[id(source)]))
            for port, source in sources
        ]
    bottom = 1 + max(layer.values(), default=0)
    for name, source, kind, lineage in checked.outputs:
        box = _Box(f"n{len(boxes)}", "output", (name, name_of(kind) + "[]" * bool(lineage)), bottom)
        boxes.append(box)
        edges.append(_Edge(ids[id(source)], box.id, name, bool(lineage)))
    return boxes, edges


def _said(parameters: object) -> Iterator[str]:
    """The words of a step, cut to what fits into a box."""
    values = parameters.values() if isinstance(parameters, dict) else ()
    for value in values:
        words = (
            ", ".join(value) if isinstance(value, list) and all(isinstance(x, str) for x in value) else value
        )
        if isinstance(words, str) and words and words != "raise":
            yield words if len(words) <= 32 else f"{words[:29]}..."
