"""Scenario files: YAML, base files, overrides and Hugging Face configurations in; ``Scenario`` out."""

from simulator.files.editor_schema import json_schema
from simulator.files.hugging_face import read_config
from simulator.files.load import from_document, load
from simulator.files.overrides import setting_paths, unknown_setting
from simulator.files.unused import unused_by_montecarlo, unused_by_search
from simulator.files.variations import Variations

__all__ = [
    "Variations",
    "from_document",
    "json_schema",
    "load",
    "read_config",
    "setting_paths",
    "unknown_setting",
    "unused_by_montecarlo",
    "unused_by_search",
]
