"""What the user asks for: frozen, validated data without units in text and without files."""

from simulator.scenario.cluster import Cluster, Network, Pool, Tier
from simulator.scenario.experts import ExpertTraining
from simulator.scenario.gpu import (
    AttentionEfficiency,
    AttentionPass,
    CollectiveEfficiency,
    GemmEfficiency,
    Gpu,
    PowerRelief,
)
from simulator.scenario.model import Experts, LatentAttention, Mamba, Model
from simulator.scenario.parallelism import Parallelism
from simulator.scenario.provenance import Provenance
from simulator.scenario.recompute import Offload, RecomputeDetail
from simulator.scenario.scenario import Measured, Scenario
from simulator.scenario.search import Search
from simulator.scenario.software import Software
from simulator.scenario.sweep import PublishedPoint, Sweep
from simulator.scenario.training import Overlap, Training

__all__ = [
    "AttentionEfficiency",
    "AttentionPass",
    "Cluster",
    "CollectiveEfficiency",
    "ExpertTraining",
    "Experts",
    "GemmEfficiency",
    "Gpu",
    "LatentAttention",
    "Mamba",
    "Measured",
    "Model",
    "Network",
    "Offload",
    "Overlap",
    "Parallelism",
    "Pool",
    "PowerRelief",
    "Provenance",
    "PublishedPoint",
    "RecomputeDetail",
    "Scenario",
    "Search",
    "Software",
    "Sweep",
    "Tier",
    "Training",
]
