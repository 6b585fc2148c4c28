"""Known GPUs, networks, models and software stacks, each number with its source.

One YAML file per entry, read when it is asked for. The schemas also read definitions written inside a
scenario file.
"""

from simulator.catalogue.describe import Row, describe
from simulator.catalogue.gpu_entry import GpuEntry
from simulator.catalogue.load import gpu, model, network, software, software_for_stack
from simulator.catalogue.lookup import names
from simulator.catalogue.model_entry import ModelEntry
from simulator.catalogue.network_entry import NetworkEntry
from simulator.catalogue.software_entry import SoftwareEntry

__all__ = [
    "GpuEntry",
    "ModelEntry",
    "NetworkEntry",
    "Row",
    "SoftwareEntry",
    "describe",
    "gpu",
    "model",
    "names",
    "network",
    "software",
    "software_for_stack",
]
