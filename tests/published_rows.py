"""Rows as papers publish them, and an answer whose numbers are simple, for the tests of validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.validation.rows import RawRow, Row
from simulator.validation.run import outcome
from simulator.validation.settle import settle_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator import validation
    from simulator.scenario import Scenario


@dataclass(frozen=True)
class Fixed:
    """An answer whose numbers are simple enough to check errors by hand."""

    scenario: Scenario
    step_time_s: float = 10.0

    def to_dict(self) -> Mapping[str, object]:
        tokens = self.scenario.tokens_per_step / self.step_time_s / self.scenario.cluster.gpus
        by_convention = {"causal": 400.0, "full": 440.0, "recompute": 580.0, "palm": 450.0, "6n": 390.0}
        return {
            "step_time_s": self.step_time_s,
            "tokens_per_s_per_gpu": tokens,
            "tflops_per_gpu": 400.0,
            "tflops_per_gpu_by_convention": by_convention,
            "memory": {
                "peak_bytes": 60 * 2**30,
                "fits": True,
                "ranks": [
                    {"terms_bytes": {"framework": 5 * 2**30, "weights": 40 * 2**30, "fragmentation": 2**30}},
                    {
                        "terms_bytes": {
                            "framework": 5 * 2**30,
                            "activations": 50 * 2**30,
                            "fragmentation": 5 * 2**30,
                        }
                    },
                ],
            },
        }


def row(**changes: object) -> dict[str, object]:
    """A plain dense row; dictionaries are merged into those of the row."""
    arch = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 14336}
    base: dict[str, object] = {
        "id": "plain",
        "stack": "Megatron-Core",
        "gpu": "h100-80gb-sxm",
        "gpus": 64,
        "model": "a-model-of-its-own",
        "arch": {**arch, "vocab": 128256, "gated": True, "tied": False, "positional": "rope"},
        "seq_len": 8192,
        "parallel": {"tp": 2, "cp": 1, "pp": 4, "dp": 8, "ep": 1, "zero": 1, "sequence_parallel": True},
        "schedule": "1f1b",
        "micro_batch": 1,
        "global_batch": 128,
        "precision": "bf16",
        "recompute": "none",
        "overlap": {"tp": False, "dp": True, "pp": False},
        "attention": "flash2",
        "network": "infiniband, rail-optimised",
        "network_gbps_per_gpu": 400,
        "measured": {"step_time_s": 8.0},
    }
    for key, value in changes.items():
        old = base.get(key)
        base[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return base


def settled(**changes: object) -> RawRow:
    return settle_row(RawRow("plain", "tests", row(**changes))).row


def parsed(**changes: object) -> Row:
    """A row whose notes were settled."""
    return settled(**changes).parsed()


def run(**changes: object) -> validation.RowOutcome:
    return outcome(settled(**changes), Fixed)
