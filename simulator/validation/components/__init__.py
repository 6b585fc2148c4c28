"""Parts of a step beside measurements of the same parts: layers with experts, their exchanges, attention."""

from simulator.validation.components.predict import (
    ComponentOutcome,
    component_errors,
    outcomes_of,
    validate_components,
)
from simulator.validation.components.read import Component, read_components

__all__ = [
    "Component",
    "ComponentOutcome",
    "component_errors",
    "outcomes_of",
    "read_components",
    "validate_components",
]
