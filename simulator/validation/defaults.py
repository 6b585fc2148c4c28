"""What each software stack does where a published row does not say: one default each, never the best fit.

A value comes from the stack's own default settings or from its published recipes; ``source`` says which. A
default that is used is recorded as a warning on the row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.results.flops import Convention
    from simulator.validation.rows import MemoryQuantity


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderAttention:
    """The attention kernel of rows that are older than the one that their stack uses today.

    Attributes:
        kernel: What they ran.
        gpu: Beginning of the names of the accelerators that they are about.
        named: Regular expression that their stack or source matches.
    """

    kernel: str
    gpu: str = ""
    named: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackDefaults:
    """Habits of a training stack.

    Attributes:
        name: What warnings call the stack.
        pattern: Regular expression that recognises the stack's name in a row.
        source: Where the habits were read.
        precision: Number format of the matrix multiplications.
        recompute: Activations recomputed in the backward pass.
        sharding: What data-parallel ranks share.
        sequence_parallel: Whether norms are divided along the sequence where tp > 1.
        accumulates: Whether a step runs micro-batches of one sequence; else one micro-batch takes the whole
            batch of its rank.
        microbatch_tokens: Tokens of a micro-batch without a pipeline; 0: as ``accumulates`` says.
        one_microbatch_per_stage: Whether a pipeline divides the batch of a replica into as many micro-batches
            as pipeline ranks; else its micro-batches are single sequences.
        chunks_per_rank: Virtual stages of an interleaved schedule; 0: as many as leave one layer in each.
        interleaves_experts: Whether pipelines of models with experts run interleaved, one layer per virtual
            stage, where neither schedule nor virtual stages are stated.
        tied: Whether the output head shares the embedding's weights.
        positional: How positions are encoded.
        vocab_size: Size of the vocabulary.
        vocab_multiple: The vocabulary is padded to a multiple of this times tp; 0: it is not padded.
        seq_length: Tokens of one sequence.
        flops_convention: How the stack counts FLOPs in the TFLOP/s and MFU it prints.
        low_precision_params: Whether its fp8 recipes store and gather weights in fp8.
        attention: Attention kernel of rows older than the kernel that the stack uses today.
        p2p_overlap_interleaves: Whether it overlaps messages between stages in interleaved schedules only.
        even_with: Modules before and behind the layers that count as layers where these are divided evenly
            among pipeline stages.
        fills_stages: Whether layers that do not divide evenly fill all pipeline stages but the last, which
            holds the rest beside prediction modules and loss.
        overlaps_shared_experts: Whether its recipes run shared experts beside an all-to-all among experts.
        memory: What the stack prints as peak memory.
        memory_in_gib: Whether what it calls GB are 2^30 bytes.
    """

    name: str
    pattern: str
    source: str
    precision: str = "bf16"
    recompute: str = "none"
    sharding: str = "zero1"
    sequence_parallel: bool = True
    accumulates: bool = True
    microbatch_tokens: int = 0
    one_microbatch_per_stage: bool = False
    chunks_per_rank: int = 0
    interleaves_experts: bool = False
    tied: bool = False
    positional: str = "rope"
    vocab_size: int = 128256
    vocab_multiple: int = 128
    seq_length: int = 4096
    flops_convention: Convention = "causal"
    low_precision_params: bool = False
    attention: OlderAttention | None = None
    p2p_overlap_interleaves: bool = False
    even_with: tuple[int, int] = (0, 0)
    fills_stages: bool = False
    overlaps_shared_experts: bool = False
    memory: MemoryQuantity = "used"
    memory_in_gib: bool = False

    def attention_on(self, gpu: str, text: str) -> str | None:
        """Return the attention kernel of an older row, or None where the stack's own kernel holds.

        Args:
            gpu: Accelerator of the row.
            text: What names its stack and source.
        """
        older = self.attention
        if older is None or not gpu.startswith(older.gpu) or not re.search(older.named, text, re.IGNORECASE):
            return None
        return older.kernel


_MEGATRON_CORE = StackDefaults(
    name="megatron-core",
    pattern=r"megatron.?core",
    source="Megatron-Core arguments.py (recompute_granularity None, make-vocab-size-divisible-by 128, "
    "messages between stages overlapped in interleaved schedules only); causal-halved FLOPs from 0.12",
    p2p_overlap_interleaves=True,
)
_MEGATRON_LM = replace(
    _MEGATRON_CORE,
    name="megatron-lm",
    pattern=r"megatron.?lm",
    source="Megatron-LM arguments.py of 2022 and 2023 (GPT-2 vocabulary, shared embeddings, learned "
    "positions, no distributed optimizer unless asked for); arXiv:2205.05198 counts attention in full",
    sharding="none",
    sequence_parallel=False,
    tied=True,
    positional="learned",
    vocab_size=50257,
    seq_length=2048,
    flops_convention="full",
)
_ZERO_BUBBLE = replace(
    _MEGATRON_LM,
    name="zero-bubble fork of Megatron-LM",
    pattern=r"fork 2023 \(sail-sg\)",
    source="github:sail-sg/zero-bubble-pipeline-parallelism (commit fd34fb0a, November 2023) "
    "examples/pretrain_zero_bubble.sh (fp16, no --use-flash-attn, dropout as usual, tied embeddings, a "
    "SentencePiece tokenizer; the paper's 14.6 and 28.3 billion parameters leave 24,000 to 32,450 entries to "
    "it: 32,000, the usual size); schedules.py prints max_memory_allocated // 1000000",
    precision="fp16",
    vocab_size=32000,
    memory="allocated",
)
_VOCABULARY = replace(
    _MEGATRON_LM,
    name="vocabulary-parallel fork of Megatron-LM",
    pattern=r"fork 20\d\d \(sail-sg\)",
    source="github:sail-sg/VocabularyParallelism pretrain_gpt.sh (fp16, --use-flash-attn, untied "
    "embeddings); training/utils.py report_memory and artifact/show_result_full_exp.py: "
    "max_memory_allocated in MiB, over 1024, called GB",
    precision="fp16",
    tied=False,
    memory="allocated",
    memory_in_gib=True,
)
_MEGATRON_2021 = replace(
    _MEGATRON_LM,
    name="megatron-lm-2021",
    pattern=r"megatron.?lm (2019|202[01])",
    source="arXiv:2104.04473: fp16, full activation recomputation, FLOPs with recompute (equation 3)",
    precision="fp16",
    recompute="full",
    flops_convention="recompute",
)
_ALEPH_ALPHA = replace(
    _MEGATRON_LM,
    name="aleph-alpha-scaling",
    pattern=r"aleph.?alpha",
    source="github:Aleph-Alpha/scaling (commit 737f8558) topology_config.py (pipe_partition_method uniform "
    "over all modules, sequence_parallel False); arXiv:2311.05610 (ZeRO-1, LLaMA, 128k vocabulary)",
    sharding="zero1",
    tied=False,
    positional="rope",
    vocab_size=128000,
    even_with=(1, 2),
)
_DEEPSPEED = replace(
    _MEGATRON_2021,
    name="megatron-deepspeed",
    pattern=r"deepspeed|bigscience|vtrain",
    source="BigScience's Megatron-DeepSpeed: arXiv:2211.05100 (ALiBi positions, full recomputation); "
    "github:bigscience-workshop/bigscience, FLOPs with recompute",
    positional="alibi",
)

STACKS: tuple[StackDefaults, ...] = (
    replace(
        _MEGATRON_CORE,
        name="megatron-bridge",
        pattern=r"megatron.?bridge|automodel",
        source="Megatron-Bridge performance recipes (distributed optimizer, sequence parallelism with tp); "
        "its mixed_precision.py sets fp8_param_gather in the delayed, current and MX recipes; "
        "recipes/deepseek/deepseek_v3.py (v0.3.0 to v0.6.0), set_deepseek_v3_pipeline_model_parallel_layout; "
        "models/deepseek/deepseek_v3_bridge.py and others: moe_shared_expert_overlap",
        low_precision_params=True,
        fills_stages=True,
        overlaps_shared_experts=True,
    ),
    replace(
        _MEGATRON_CORE,
        name="nemo",
        pattern=r"nemo|dgxc",
        source="NeMo recipes of 2024 and 2025 (distributed optimizer, sequence parallelism with tp); FLOPs "
        "with attention in full in 24.07 to 25.07; fp8_params in its fp8 recipes; cuDNN's attention switched "
        "off before 24.09 (github:NVIDIA/NeMo-Framework-Launcher, NVTE_FUSED_ATTN: 0 up to commit 04b8d098); "
        "its DeepSeek-V3 overlaps shared experts as Megatron-Bridge's, which grew out of it, does",
        attention=OlderAttention(kernel="flash2", named=r"nemo[ -]?24\.0[1-7]"),
        low_precision_params=True,
        overlaps_shared_experts=True,
        flops_convention="full",
    ),
    replace(
        _MEGATRON_CORE,
        source=f"{_MEGATRON_CORE.source}; github:yanring/Megatron-MoE-ModelZoo (commits 78fd4d6 and e865051) "
        "runtime_configs/benchmarking/runtime.conf: Mixtral 8x7B and 8x22B and Qwen2-57B-A14B have one layer "
        "per virtual stage; DeepSeek-V3's pipeline layouts there, Et*4|(t*4|)*14tmL and Et|(tt|)*30mL; "
        "model_configs/benchmarking/Qwen2-57B-A14B.yaml and DeepSeek-V2.yaml: moe-shared-expert-overlap",
        interleaves_experts=True,
        fills_stages=True,
        overlaps_shared_experts=True,
    ),
    _ALEPH_ALPHA,
    _ZERO_BUBBLE,
    _VOCABULARY,
    _DEEPSPEED,
    _MEGATRON_2021,
    _MEGATRON_LM,
    StackDefaults(
        name="torchtitan",
        pattern=r"torchtitan",
        one_microbatch_per_stage=True,
        source="arXiv:2410.06511 and torchtitan's train configurations (selective activation checkpointing, "
        "two stages per rank for interleaved schedules, no gradient accumulation, full attention FLOPs); "
        "build_pipeline_schedule: n_microbatches is the pipeline degree unless set (commit 6b03ffa32); "
        "components/metrics.py: 'memory' is max_reserved_gib",
        memory="reserved",
        memory_in_gib=True,
        recompute="selective",
        sharding="zero3",
        accumulates=False,
        chunks_per_rank=2,
        vocab_multiple=0,
        seq_length=8192,
        flops_convention="full",
    ),
    StackDefaults(
        name="llm-foundry",
        pattern=r"foundry|composer|mosaic",
        source="llm-foundry's MPT configurations (FSDP full shard, shared embeddings, ALiBi, vocabulary "
        "50368; scripts/train/benchmarking/README.md: full attention FLOPs; until March 2024 its "
        "submit_benchmarks.py sets attn_impl to triton, FlashAttention-1 in Triton, within 5% of the CUDA "
        "kernel's speed at head dimension 128 (FlashAttention-2, arXiv:2307.08691, figure 4); sweep.py of "
        "January 2024, behind the tables of 128 to 512 H100, sets flash with flash-attn 2 for most models)",
        attention=OlderAttention(kernel="flash1", named=r"^(?!.*large scale)"),
        sharding="zero3",
        accumulates=False,
        tied=True,
        positional="alibi",
        vocab_size=50368,
        vocab_multiple=0,
        seq_length=2048,
        flops_convention="full",
    ),
    replace(
        _MEGATRON_LM,
        name="flash-attention",
        pattern=r"flash.?attention",
        source="github:Dao-AILab/flash-attention training/configs/experiment/pile (ZeRO-1; "
        "8 sequences of 2048 tokens per micro-batch of the 1.3B model on "
        "80 GB, the middle of the five models' 4 to 32); training/README.md counts attention in full",
        sharding="zero1",
        microbatch_tokens=16384,
    ),
    StackDefaults(
        name="maxtext",
        pattern=r"maxtext|paxml|xla|jax",
        source="MaxText configs/base.yml (remat_policy full, fully sharded data parallelism, separate "
        "logits, vocab_size 32000, max_target_length 2048); attention FLOPs halved since pull request 1988",
        recompute="full",
        sharding="zero3",
        accumulates=False,
        vocab_size=32000,
        vocab_multiple=0,
        seq_length=2048,
    ),
    replace(
        _MEGATRON_CORE,
        name="internevo",
        pattern=r"internevo|internlm",
        source="arXiv:2401.09149 and InternEvo's 7B configuration (ZeRO-1, vocabulary 103168, "
        "full attention FLOPs)",
        vocab_size=103168,
        seq_length=2048,
        flops_convention="full",
    ),
)

UNKNOWN = replace(
    _MEGATRON_CORE,
    name="unknown stacks",
    pattern="",
    source="Megatron-Core, the most common stack among published runs; sequence parallelism only where it is "
    "said; a source that does not tell how it counts FLOPs is compared with attention causal-halved",
    sequence_parallel=False,
    p2p_overlap_interleaves=False,
)


def stack_defaults(software: str) -> StackDefaults:
    """Find a stack's habits by the name that a row gives it; an unknown one gets those of ``UNKNOWN``.

    >>> [stack_defaults(name).name for name in ("Megatron-LM 2021", "NeMo 25.xx", "Megatron-LM fork 2024")]
    ['megatron-lm-2021', 'nemo', 'megatron-lm']
    >>> stack_defaults("PaLM") is UNKNOWN
    True
    """
    matching = (known for known in STACKS if re.search(known.pattern, software, re.IGNORECASE))
    return next(matching, UNKNOWN)
