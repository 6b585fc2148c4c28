"""Rows by the kind of run that a user has in mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.validation.leave_one_out import fits_without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.validation.outcome import RowOutcome

_DENSE_SOURCES = (
    "megatron",
    "nemo",
    "dgxc",
    "hagemann2023",
    "korthikanti",
    "narayanan",
)


def _dense_ampere_and_hopper(row: RowOutcome) -> bool:
    return (
        not row.has_experts and row.gpu.startswith(("a100", "h100")) and row.source.startswith(_DENSE_SOURCES)
    )


SETS: Mapping[str, Callable[[RowOutcome], bool]] = {
    "all": lambda _: True,
    "sources that the fit of training has seen": lambda row: row.source in fits_without(),
    "sources that it has not seen": lambda row: row.source not in fits_without(),
    "dense, A100 and H100, Megatron and NeMo": _dense_ampere_and_hopper,
    "mixture of experts, Hopper": lambda row: (
        row.has_experts and row.gpu.startswith(("h100", "h200", "h800"))
    ),
    "mixture of experts, Blackwell": lambda row: row.has_experts and row.gpu.startswith(("b", "gb")),
    "FSDP (llm-foundry, torchtitan)": lambda row: row.source in {"llm_foundry", "torchtitan"},
    "Korthikanti 2022": lambda row: row.source == "korthikanti_2022",
    "vTrain": lambda row: row.source.startswith("vtrain"),
    "Llama 3 405B (arXiv:2407.21783)": lambda row: row.id.startswith("llama3-herd-t4-405b"),
    "TPU": lambda row: row.gpu.startswith("tpu"),
}
"""Membership by name of the set."""
