"""The layout of a run whose published table differs from the recipe that the same release ships."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.validation.blanks import Blanks
    from simulator.validation.rows import Row

_DIFFERS = re.compile(r"closest perf recipe (\S+) @ (\S+) differs from the table in (\{[^}]*\})")
_DEGREES = {
    "tensor_model_parallel_size": "tp",
    "pipeline_model_parallel_size": "pp",
    "virtual_pipeline_model_parallel_size": "vpp",
    "context_parallel_size": "cp",
    "expert_model_parallel_size": "ep",
}
_OTHER_RUN = {"num_gpus", "use_megatron_fsdp"}
"""Where recipe and table differ in these, the recipe is of another run."""


def as_recipe(row: Row, blanks: Blanks) -> Row:
    """Return a row with the layout of its release's recipe, where its notes say that the table differs.

    The benchmark scripts read recipes; tables of them are written by hand, and lag behind: the next release's
    table shows the recipe's layout and the same speed. Where the global batch differs, too, only the degrees
    of parallelism are taken.

    Args:
        row: The row.
        blanks: Where the assumption is noted.
    """
    found = _DIFFERS.search(row.notes)
    if found is None:
        return row
    recipe = cast("Mapping[str, int | None]", ast.literal_eval(found[3]))
    if _OTHER_RUN & recipe.keys():
        return row
    degrees = {_DEGREES[key]: value for key, value in recipe.items() if key in _DEGREES}
    parallel = row.parallel.model_copy(update=degrees)
    changed: dict[str, object] = {}
    if degrees:
        replica = parallel.tp * parallel.pp * parallel.cp
        changed["parallel"] = parallel.model_copy(update={"dp": max(1, row.gpus // replica)})
        changed["schedule"] = None if parallel.pp == 1 or "vpp" in degrees else row.schedule
    if "micro_batch_size" in recipe and "global_batch_size" not in recipe:
        changed["micro_batch"] = recipe["micro_batch_size"]
    if not changed:
        return row
    blanks.note(f"table and recipe of the release differ: layout of recipe {found[1]} at {found[2]}")
    return row.model_copy(update=changed)
