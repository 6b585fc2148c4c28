"""Models and requests that several tests of FLOPs and metrics count on."""

from __future__ import annotations

from simulator.scenario import Model, Overlap, Training


def model(layers: int, h: int, heads: int, kv: int, d: int, f: int, v: int, /, **rest: object) -> Model:
    return Model(
        name="m",
        num_hidden_layers=layers,
        hidden_size=h,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=d,
        intermediate_size=f,
        vocab_size=v,
        **rest,
    )


def training(seq_length: int, recompute: str = "none", attention: str = "flash3", **rest: object) -> Training:
    return Training(
        seq_length=seq_length,
        micro_batch_size=1,
        global_batch_size=16,
        precision="bf16",
        recompute=recompute,
        attention=attention,
        grad_dtype="fp32",
        overlap=Overlap(grad_reduce=True, param_gather=True, p2p=True, tp=False),
        **rest,
    )


LLAMA3_405B = model(126, 16384, 128, 8, 128, 53248, 128256)
