"""A picture of the pipeline: one lane per rank, time to the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from simulator.reports.boxes import Boxes, boxes_of
from simulator.reports.figure import DPI, house_style
from simulator.reports.occupancy import Floats, busy_by_kind
from simulator.reports.style import KIND_COLOURS, KIND_NAMES
from simulator.workload.program import Ints, OpKind, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from simulator.engines.timeline import Timeline

IDLE = "#EDEDED"
NARROWEST_BOX_PX = 2.0
MAX_LANES = 128

_AXES_PX = 1600
_LEFT_PX, _RIGHT_PX, _BOTTOM_PX, _TOP_PX = 130, 50, 75, 110
_COMPUTE, _MESSAGES = (0.30, 0.94), (0.06, 0.26)
_MAX_NUMBERS, _NUMBERED_LANE_PX = 1500, 20
_OUTLINED_BOX_PX, _OUTLINE_PT = 6.0, 0.35
_NUMBERED = (OpKind.FORWARD, OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT)


def timeline_figure(
    timeline: Timeline, *, title: str = "", subtitle: str = "", time_axis: str = ""
) -> Figure:
    """Draw what every rank does during the step.

    The broad band of a lane is the compute stream, the thin one below it all communication streams. Ops are
    boxes with the number of their micro-batch where they are wide enough; where they are narrower than two
    pixels, each pixel shows the share of its time that is busy, so that the ink always equals the busy time.

    Args:
        timeline: What happened.
        title: First line above the picture.
        subtitle: Second line, for the numbers that the picture illustrates.
        time_axis: What the time axis counts, where its numbers are no seconds.
    """
    ranks = _lanes(timeline.program.num_ranks)
    lane_px = int(np.clip(900 // len(ranks), 7, 44))
    width_px = _LEFT_PX + _AXES_PX + _RIGHT_PX
    height_px = _BOTTOM_PX + lane_px * len(ranks) + _TOP_PX
    with house_style():
        figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI)
        box = (
            _LEFT_PX / width_px,
            _BOTTOM_PX / height_px,
            _AXES_PX / width_px,
            lane_px * len(ranks) / height_px,
        )
        axes = figure.add_axes(box)
        axes.set_xlim(0, timeline.makespan_s or 1.0)
        axes.set_ylim(len(ranks), 0)
        _draw_lanes(axes, timeline, ranks, lane_px)
        _label(axes, timeline, ranks, height_px)
        _label_time(axes, timeline.makespan_s, time_axis)
        figure.text(_LEFT_PX / width_px, 1 - 22 / height_px, title, va="center", weight="bold", size=11)
        omitted = timeline.program.num_ranks - len(ranks)
        note = f"{subtitle}  ({omitted} ranks between those shown are left out)" if omitted else subtitle
        figure.text(_LEFT_PX / width_px, 1 - 50 / height_px, note, va="center", size=8.5, color="0.3")
    return figure


def _lanes(num_ranks: int) -> Ints:
    count = min(num_ranks, MAX_LANES)
    return np.unique(np.linspace(0, num_ranks - 1, count).astype(np.int64))


def _draw_lanes(axes: Axes, timeline: Timeline, ranks: Ints, lane_px: int) -> None:
    stream = timeline.program.stream
    per_pixel = (timeline.makespan_s or 1.0) / _AXES_PX
    wide = []
    for lane, rank in enumerate(ranks.tolist()):
        ops = timeline.ops_of(rank)
        boxes = {number: boxes_of(timeline, ops[stream[ops] == number]) for number in Stream}
        compute = boxes.pop(Stream.COMPUTE)
        is_wide = (compute.end_s - compute.start_s) >= NARROWEST_BOX_PX * per_pixel
        _draw_density(axes, list(boxes.values()), lane, _MESSAGES)
        _draw_density(axes, [compute.select(~is_wide)], lane, _COMPUTE)
        wide.append(compute.select(is_wide))
        _draw_boxes(axes, wide[-1], lane, per_pixel)
    if lane_px >= _NUMBERED_LANE_PX:
        _number_boxes(axes, wide, per_pixel)


def _rgb(colour: str) -> Floats:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _draw_density(axes: Axes, streams: Sequence[Boxes], lane: int, band: tuple[float, float]) -> None:
    """Draw one image column per pixel, its colours mixed in proportion to the time each kind takes of it."""
    kinds = np.unique(np.concatenate([boxes.kind for boxes in streams]))
    edges = np.linspace(*axes.get_xlim(), _AXES_PX + 1)
    shares = busy_by_kind(streams, kinds, edges)
    colours = np.stack([_rgb(IDLE), *(_rgb(KIND_COLOURS[OpKind(kind)]) for kind in kinds.tolist())])
    weights = np.concatenate([1 - shares.sum(axis=0, keepdims=True), shares])
    image = np.clip(weights.T @ colours, 0, 1)[np.newaxis]
    extent = (edges[0], edges[-1], lane + 1 - band[0], lane + 1 - band[1])
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")


def _draw_boxes(axes: Axes, boxes: Boxes, lane: int, per_pixel: float) -> None:
    low, high = lane + 1 - _COMPUTE[1], _COMPUTE[1] - _COMPUTE[0]
    is_outlined = (boxes.end_s - boxes.start_s) >= _OUTLINED_BOX_PX * per_pixel
    for kind in np.unique(boxes.kind).tolist():
        for outline, chosen in ((0.0, ~is_outlined), (_OUTLINE_PT, is_outlined)):
            mine = boxes.select(chosen & (boxes.kind == kind))
            # Half of an outline lies outside its box: draw the box smaller, so that the ink stays the same.
            inset = outline * DPI / 72 / 2 * per_pixel
            start, width = mine.start_s + inset, mine.end_s - mine.start_s - 2 * inset
            spans = np.stack([start, width], axis=1).tolist()
            colour = KIND_COLOURS[OpKind(kind)]
            axes.broken_barh(spans, (low, high), facecolors=colour, edgecolors="0.25", linewidth=outline)


def _number_boxes(axes: Axes, boxes: Sequence[Boxes], per_pixel: float) -> None:
    """Write the micro-batch into the boxes, kind by kind, where the longest number fits."""
    digits = max((len(str(lane.microbatch.max(initial=0))) for lane in boxes), default=1)
    for kind in _NUMBERED:
        chosen = [lane.select((lane.kind == kind) & (lane.microbatch >= 0)) for lane in boxes]
        widths = np.concatenate([lane.end_s - lane.start_s for lane in chosen]) / per_pixel
        if not 0 < len(widths) <= _MAX_NUMBERS or np.median(widths) < 8 * digits + 4:
            continue
        for lane, mine in enumerate(chosen):
            middle = lane + 1 - (_COMPUTE[0] + _COMPUTE[1]) / 2
            roomy = mine.select((mine.end_s - mine.start_s) >= (8 * digits + 4) * per_pixel)
            x = (roomy.start_s + roomy.end_s) / 2
            for place, number in zip(x.tolist(), roomy.microbatch.tolist(), strict=True):
                axes.text(place, middle, number, ha="center", va="center_baseline", size=6)


def _label(axes: Axes, timeline: Timeline, ranks: Ints, height_px: int) -> None:
    names = timeline.program.rank_names
    every = -(-len(ranks) // 40)
    axes.set_yticks(np.arange(0, len(ranks), every) + 0.5, [names[rank] for rank in ranks[::every].tolist()])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, timeline.makespan_s or 1.0)
    axes.set_ylim(len(ranks), 0)
    shown = np.unique(timeline.program.kind[np.isin(timeline.program.rank, ranks)]).tolist()
    handles = [Patch(color=KIND_COLOURS[kind], label=KIND_NAMES[kind]) for kind in _distinct(shown)]
    handles.append(Patch(color=IDLE, label="idle"))
    above = 1 + 4 / max(height_px - _BOTTOM_PX - _TOP_PX, 1)
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.004, above), ncols=len(handles), handlelength=1
    )


def _distinct(kinds: Sequence[int]) -> list[OpKind]:
    """Keep one kind of each colour, in order."""
    by_colour: dict[str, OpKind] = {}
    for kind in map(OpKind, kinds):
        by_colour.setdefault(KIND_COLOURS[kind], kind)
    return list(by_colour.values())


def _label_time(axes: Axes, makespan_s: float, counted: str) -> None:
    in_seconds = makespan_s >= 1 or bool(counted)
    scale = 1.0 if in_seconds else 1e3
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value * scale:g}"))
    axes.set_xlabel(counted or f"time from the start of the step ({'s' if in_seconds else 'ms'})")
