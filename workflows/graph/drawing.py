"""The graph of a workflow as Mermaid text and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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
_PADDING, _GAP_X, _GAP_Y, _MARGIN, _PASSAGE = 10, 28, 44, 24, 12

_Place = tuple[int, int, int, int]


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
    """The graph in layers from top to bottom; arrows that pass a layer go between its boxes.

    Raises:
        WorkflowError: the definition is wrong.
    """
    boxes, edges = _layout(check(graph))
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    ruler = ImageDraw.Draw(Pillow.new("RGB", (1, 1)))
    sizes = {}
    for box in boxes:
        left, top, right, bottom = ruler.multiline_textbbox((0, 0), "\n".join(box.lines), font=font)
        sizes[box.id] = (int(right - left) + 2 * _PADDING, int(bottom - top) + 2 * _PADDING)
    layers, ways = _with_passages(boxes, edges)
    places = _placed(layers, sizes)
    width = max((x1 for _, _, x1, _ in places.values()), default=0) + _MARGIN
    height = max((y1 for _, _, _, y1 in places.values()), default=0) + _MARGIN
    canvas = Pillow.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    inputs = Counter(edge.end for edge in edges)
    for edge, way in zip(edges, ways, strict=True):
        points = _arrow(pen, [places[one] for one in way], width=3 if edge.nested else 1)
        if inputs[edge.end] > 1:  # which of them this is
            (x0, y0), (x1, y1) = points[-2:]
            middle = ((x0 + x1) / 2, (y0 + y1) / 2)
            pen.rectangle(pen.textbbox(middle, edge.label, font=small, anchor="mm"), fill="white")
            pen.text(middle, edge.label, fill=_LINE, font=small, anchor="mm")
    for box in boxes:
        place = places[box.id]
        pen.rounded_rectangle(place, radius=6, fill=_FILL[box.kind], outline=_LINE)
        corner = (place[0] + _PADDING, place[1] + _PADDING)
        pen.multiline_text(corner, "\n".join(box.lines), fill=_INK, font=font)
    return Picture(pixels=np.asarray(canvas), origin=Origin(id="graph"))


def _with_passages(boxes: list[_Box], edges: list[_Edge]) -> tuple[list[list[str]], list[list[str]]]:
    """Ids by layer, in order from left to right, and the way of every edge through them.

    An edge that passes a layer has a place of its own there. Each layer is ordered by where the arrows into
    it come from, the first step of the drawing of Sugiyama, Tagawa and Toda (1981).
    """
    layer = {box.id: box.layer for box in boxes}
    layers: list[list[str]] = [[] for _ in range(1 + max(layer.values(), default=0))]
    for box in boxes:
        layers[box.layer].append(box.id)
    sources: dict[str, list[str]] = {}
    ways = []
    for number, edge in enumerate(edges):
        way = [edge.start]
        for passed in range(layer[edge.start] + 1, layer[edge.end]):
            way.append(f"{number}.{passed}")
            layers[passed].append(way[-1])
        ways.append([*way, edge.end])
        for before, after in pairwise(ways[-1]):
            sources.setdefault(after, []).append(before)
    for above, row in pairwise(layers):
        position = {one: (place + 0.5) / len(above) for place, one in enumerate(above)}
        middles = {one: [position[source] for source in sources.get(one, ())] for one in row}
        row.sort(key=lambda one: sum(middles[one]) / len(middles[one]) if middles[one] else 0.5)
    return layers, ways


def _placed(layers: list[list[str]], sizes: dict[str, tuple[int, int]]) -> dict[str, _Place]:
    """Where everything lies, (x0, y0, x1, y1) in pixels; what has no size is a passage."""
    spans = [[sizes.get(one, (_PASSAGE, 0))[0] for one in row] for row in layers]
    widths = [sum(row) + _GAP_X * (len(row) - 1) for row in spans]
    widest = max(widths, default=0)
    places: dict[str, _Place] = {}
    y = _MARGIN
    for row, span, whole in zip(layers, spans, widths, strict=True):
        x = _MARGIN + (widest - whole) // 2
        tallest = max((sizes[one][1] for one in row if one in sizes), default=0)
        for one, width in zip(row, span, strict=True):
            places[one] = (x, y, x + width, y + (sizes[one][1] if one in sizes else tallest))
            x += width + _GAP_X
        y += tallest + _GAP_Y
    return places


def _arrow(pen: ImageDraw.ImageDraw, way: list[_Place], *, width: int) -> list[tuple[float, float]]:
    """From the lower side of one box to the upper side of another, through the passages; its corners."""
    start, *passed, end = way
    points = [((start[0] + start[2]) / 2, float(start[3]))]
    for x0, y0, x1, y1 in passed:
        points += [((x0 + x1) / 2, float(y0)), ((x0 + x1) / 2, float(y1))]
    x, y = (end[0] + end[2]) / 2, float(end[1])
    points.append((x, y - 5))
    pen.line(points, fill=_LINE, width=width, joint="curve")
    pen.polygon([(x, y), (x - 5, y - 8), (x + 5, y - 8)], fill=_LINE)
    return points


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
