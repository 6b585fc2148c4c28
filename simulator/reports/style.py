"""One colour per kind of op, everywhere: plots, traces and tables.

The colours are those of Okabe and Ito, which people with colour-blindness tell apart
(https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

from pathlib import Path

from simulator.workload.program import OpKind

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
BLUISH_GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
REDDISH_PURPLE = "#CC79A7"
GREY = "#8A8A8A"

CURVE_COLOURS = (BLUE, ORANGE, BLUISH_GREEN, REDDISH_PURPLE, SKY_BLUE, VERMILLION, BLACK)

KIND_COLOURS = {
    OpKind.FORWARD: SKY_BLUE,
    OpKind.BACKWARD: BLUISH_GREEN,
    OpKind.BACKWARD_INPUT: BLUISH_GREEN,
    OpKind.BACKWARD_WEIGHT: YELLOW,
    OpKind.KERNEL: BLUE,
    OpKind.COLLECTIVE: REDDISH_PURPLE,
    OpKind.TRANSFER: ORANGE,
    OpKind.OPTIMIZER: VERMILLION,
    OpKind.OVERHEAD: GREY,
    OpKind.OUTPUT_FORWARD: BLUE,
    OpKind.OUTPUT_BACKWARD: BLUE,
}

KIND_NAMES = {
    OpKind.FORWARD: "forward",
    OpKind.BACKWARD: "backward",
    OpKind.BACKWARD_INPUT: "backward, inputs",
    OpKind.BACKWARD_WEIGHT: "backward, weights",
    OpKind.KERNEL: "kernel",
    OpKind.COLLECTIVE: "collective",
    OpKind.TRANSFER: "pipeline transfer",
    OpKind.OPTIMIZER: "optimizer",
    OpKind.OVERHEAD: "step overhead",
    OpKind.OUTPUT_FORWARD: "output layer",
    OpKind.OUTPUT_BACKWARD: "output layer",
}

MPLSTYLE = Path(__file__).with_name("simulator.mplstyle")
