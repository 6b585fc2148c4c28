"""What readers of notes may look at, and what they return."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from simulator import catalogue
from simulator.errors import CatalogueError, SimulatorError
from simulator.validation.assumptions import Assumptions
from simulator.validation.clusters import row_gpu
from simulator.validation.degrees import Degrees, row_degrees
from simulator.validation.models import model_document
from simulator.validation.stacks import stack_defaults

if TYPE_CHECKING:
    from simulator.validation.rows import Row
    from simulator.validation.settle.notes import Notes
    from simulator.validation.stacks import Recipe, StackDefaults

Keys = dict[str, object]
"""What a reader returns: settings of scenario files (with a dot, or ``software``), and keys of rows."""


@dataclass(kw_only=True)
class Facts:
    """What readers may look at.

    Attributes:
        row: The row, with what is settled already.
        notes: Its notes.
        impossible: Sentences about what notes say and no scenario can.
    """

    row: Row
    notes: Notes
    impossible: list[str] = field(default_factory=list)

    @cached_property
    def defaults(self) -> StackDefaults:
        """What the row's stack does where the row does not say."""
        return stack_defaults(self.row.software)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the row ran."""
        return self.defaults.recipe(self.row)

    @cached_property
    def degrees(self) -> Degrees | None:
        """The row's degrees of parallelism; None where it contradicts itself."""
        software, _ = catalogue.software_for_stack(self.row.software)
        assumptions = Assumptions(self.defaults, software, self.row.settings)
        try:
            layers = int(str(model_document(self.row, assumptions)["num_hidden_layers"]))
            return row_degrees(self.row, row_gpu(self.row, assumptions).name, layers, assumptions)
        except SimulatorError:
            return None

    @cached_property
    def has_experts(self) -> bool:
        """Whether the model has experts."""
        if self.row.arch.experts:
            return True
        try:
            return catalogue.model(self.row.model).experts is not None
        except CatalogueError:
            return False
