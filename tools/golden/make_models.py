#!/usr/bin/env python3
"""Tiny seeded checkpoints of every architecture, with what transformers computes from them.

For each: src/model/testdata/NAME/ (config.json, model.safetensors) and NAME.golden.safetensors with
prompt.I [T], logprobs.I [T, V], routing.I [MoE layers, T, top_k] and, where the checkpoint has an
MTP layer, mtp_logprobs.I [T - 1, V]. Run from the repository root with transformers 5.23.
"""
import json
import math
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, DeepseekV2Config, DeepseekV3Config, LlamaConfig,
                          MixtralConfig, Qwen2Config, Qwen3Config)
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

OUT = pathlib.Path("src/model/testdata")
LENGTHS = (1, 17, 40)
LEAST_MARGIN = 1e-5  # between any two routing scores


def yarn(mscale, mscale_all_dim):
    return dict(rope_type="yarn", rope_theta=100.0, factor=8.0, beta_fast=32, beta_slow=1,
                original_max_position_embeddings=64, mscale=mscale, mscale_all_dim=mscale_all_dim)


DEEPSEEK = dict(vocab_size=160, hidden_size=48, intermediate_size=64, moe_intermediate_size=8,
                num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3,
                kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=16,
                n_routed_experts=12, num_experts_per_tok=3, first_k_dense_replace=1,
                max_position_embeddings=1024, tie_word_embeddings=False,
                bos_token_id=0, eos_token_id=1, pad_token_id=None)
DENSE = dict(vocab_size=192, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
             bos_token_id=0, eos_token_id=1, pad_token_id=None)

MODELS = {
    "deepseek_v3": DeepseekV3Config(**DEEPSEEK | dict(
        q_lora_rank=24, n_shared_experts=1, n_group=4, topk_group=2, routed_scaling_factor=2.5,
        norm_topk_prob=True, num_mtp_layers=1, rope_parameters=yarn(1.0, 1.0))),
    "deepseek_v2": DeepseekV2Config(**DEEPSEEK | dict(
        q_lora_rank=24, n_shared_experts=2, n_group=4, topk_group=2, routed_scaling_factor=4.0,
        topk_method="group_limited_greedy", norm_topk_prob=False,
        rope_parameters=yarn(1.0, 0.5))),
    "deepseek_v2_lite": DeepseekV2Config(**DEEPSEEK | dict(
        q_lora_rank=None, n_shared_experts=2, n_group=1, topk_group=1, routed_scaling_factor=1.0,
        topk_method="greedy", norm_topk_prob=False, rope_parameters=yarn(0.707, 0.707))),
    "deepseek_v3_fp8": DeepseekV3Config(**DEEPSEEK | dict(
        vocab_size=96, hidden_size=144, intermediate_size=136, moe_intermediate_size=24,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, q_lora_rank=40,
        kv_lora_rank=136, qk_nope_head_dim=24, v_head_dim=24, n_routed_experts=4,
        num_experts_per_tok=2, n_shared_experts=1, n_group=2, topk_group=1, num_mtp_layers=0,
        rope_parameters=yarn(1.0, 1.0))),
    "deepseek_v3_fp8_heads": DeepseekV3Config(**DEEPSEEK | dict(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, q_lora_rank=None, kv_lora_rank=24,
        qk_nope_head_dim=128, v_head_dim=128, n_shared_experts=1, n_group=4, topk_group=2,
        num_mtp_layers=0, rope_parameters=yarn(1.0, 1.0))),
    "llama": LlamaConfig(**DENSE | dict(rope_parameters=dict(
        rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=64))),
    "qwen2": Qwen2Config(**DENSE | dict(
        tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen3": Qwen3Config(**DENSE | dict(
        head_dim=32, num_hidden_layers=1, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "mixtral": MixtralConfig(**DENSE | dict(
        intermediate_size=24, num_local_experts=6, num_experts_per_tok=2, sliding_window=None,
        rope_parameters=dict(rope_type="default", rope_theta=1e6))),
}
PACKED = {"deepseek_v2_lite"}  # saved with experts in single tensors, as they lie in memory
FP8 = {"deepseek_v3_fp8", "deepseek_v3_fp8_heads"}


def draw(name, tensor, generator):
    """Weights large enough for logits and routing scores to be far from flat; bf16 values."""
    noise = torch.randn(tensor.shape, generator=generator)
    if "norm" in name and tensor.dim() == 1:
        value = 1 + 0.2 * noise
    elif tensor.dim() == 1:
        value = 0.3 * noise
    elif "embed" in name:
        value = noise
    elif "lm_head" in name:
        value = noise * 2 / math.sqrt(tensor.shape[-1])
    else:
        value = noise * 1.5 / math.sqrt(tensor.shape[-1])
    return value.to(torch.bfloat16).to(torch.float32)


def to_fp8(weight):
    """DeepSeek's 128x128 blocks. Returns bytes, scales, and the values they stand for."""
    rows, cols = weight.shape
    scale = torch.zeros(-(-rows // 128), -(-cols // 128))
    q = torch.zeros(rows, cols, dtype=torch.float8_e4m3fn)
    back = torch.zeros(rows, cols)
    for r in range(0, rows, 128):
        for c in range(0, cols, 128):
            block = weight[r:r + 128, c:c + 128]
            s = block.abs().max() / 448
            scale[r // 128, c // 128] = s
            q[r:r + 128, c:c + 128] = (block / s).to(torch.float8_e4m3fn)
            back[r:r + 128, c:c + 128] = q[r:r + 128, c:c + 128].to(torch.float32) * s
    return q, scale, back


def fp8_weights(model, tensors):
    """Replaces the matrices that DeepSeek stores in fp8, in the file and in the model."""
    out = {}
    for name, value in tensors.items():
        kept = value.dim() != 2 or "embed" in name or "lm_head" in name or "mlp.gate." in name
        if kept:
            out[name] = value.to(torch.bfloat16) if "e_score" not in name else value
            continue
        out[name], out[name + "_scale_inv"], tensors[name] = to_fp8(value.to(torch.float32))
    state = model.state_dict()
    for name in state:
        if name in tensors:
            state[name].copy_(tensors[name])
        elif name.endswith("experts.gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            for e in range(state[name].shape[0]):
                gate, up = (tensors[f"{stem}{e}.{k}_proj.weight"] for k in ("gate", "up"))
                state[name][e].copy_(torch.cat([gate, up]))
        elif name.endswith("experts.down_proj"):
            stem = name.removesuffix("down_proj")
            for e in range(state[name].shape[0]):
                state[name][e].copy_(tensors[f"{stem}{e}.down_proj.weight"])
    return out


class Routes:
    """Records the ids that every router chose, and how near the choice was."""

    def __init__(self, modules):
        self.ids, self.margin = [], math.inf
        for module in modules:
            if type(module).__name__.lower().endswith("topkrouter"):
                module.register_forward_hook(self.hook)

    def hook(self, module, _, output):
        logits, _, ids = output
        self.ids.append(ids.to(torch.int32).clone())
        scores = logits.float()
        if hasattr(module, "e_score_correction_bias"):
            scores = scores.sigmoid() + module.e_score_correction_bias
        gaps = scores.sort(dim=-1, descending=True).values.diff(dim=-1).abs()
        self.margin = min(self.margin, gaps.min().item())

    def take(self):
        ids, self.ids = self.ids, []
        return torch.stack(ids) if ids else None


class Mtp(torch.nn.Module):
    """One more block over [enorm(embedding of the next token); hnorm(h0)]. h0 is taken after the
    model's last norm, as vLLM, SGLang, llama.cpp and transformers take it."""

    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.block = v3.DeepseekV3DecoderLayer(config, config.num_hidden_layers)
        self.enorm, self.hnorm, self.norm = (v3.DeepseekV3RMSNorm(width, config.rms_norm_eps)
                                             for _ in range(3))
        self.eh_proj = torch.nn.Linear(2 * width, width, bias=False)

    def forward(self, model, hidden, ids):
        embeds = model.model.embed_tokens(ids[:, 1:])
        x = self.eh_proj(torch.cat([self.enorm(embeds), self.hnorm(hidden[:, :-1])], dim=-1))
        n = x.shape[1]
        positions = torch.arange(n)[None]
        mask = torch.full((n, n), -math.inf).triu(1)[None, None]
        x = self.block(x, attention_mask=mask, position_ids=positions,
                       position_embeddings=model.model.rotary_emb(x, positions))
        return torch.log_softmax(model.lm_head(self.norm(x)), dim=-1)

    def tensors(self, layer):
        """By the names of the released checkpoint."""
        out, prefix = {}, f"model.layers.{layer}."
        for name, value in self.state_dict().items():
            if name.endswith("experts.gate_up_proj"):
                stem = prefix + name.removeprefix("block.").removesuffix("gate_up_proj")
                for e, pair in enumerate(value):
                    gate, up = pair.chunk(2)
                    out[f"{stem}{e}.gate_proj.weight"] = gate
                    out[f"{stem}{e}.up_proj.weight"] = up
            elif name.endswith("experts.down_proj"):
                stem = prefix + name.removeprefix("block.").removesuffix("down_proj")
                for e, down in enumerate(value):
                    out[f"{stem}{e}.down_proj.weight"] = down
            elif name == "norm.weight":
                out[prefix + "shared_head.norm.weight"] = value
            else:
                out[prefix + name.removeprefix("block.")] = value
        return out


def make(name, config, seed):
    generator = torch.Generator().manual_seed(seed)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    mtp = Mtp(model.config).eval() if getattr(config, "num_mtp_layers", 0) else None
    for module in filter(None, (model, mtp)):
        for key, value in module.state_dict().items():
            value.copy_(draw(key, value, generator))
    if config.tie_word_embeddings:
        model.lm_head.weight.data.mul_(0.3)  # the embedding is the head: tame the logits
        model.lm_head.weight.data.copy_(model.lm_head.weight.data.bfloat16().float())

    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    file = folder / "model.safetensors"
    tensors = dict(model.state_dict()) if name in PACKED else load_file(file)
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    if mtp:
        tensors |= mtp.tensors(config.num_hidden_layers)
    if name in FP8:
        tensors = fp8_weights(model, tensors)
    else:
        tensors = {k: v if "e_score" in k else v.to(torch.bfloat16) for k, v in tensors.items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, file, {"format": "pt"})
    text = json.loads((folder / "config.json").read_text())
    if mtp:
        text["num_nextn_predict_layers"] = config.num_mtp_layers
    elif "num_nextn_predict_layers" in text or "num_mtp_layers" in text:
        text.pop("num_mtp_layers", None)
        text["num_nextn_predict_layers"] = 0
    if name in FP8:
        text["quantization_config"] = dict(activation_scheme="dynamic", fmt="e4m3",
                                           quant_method="fp8", weight_block_size=[128, 128])
    (folder / "config.json").write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")

    routes = Routes(model.modules())
    golden = {}
    for i, length in enumerate(LENGTHS):
        ids = torch.randint(config.vocab_size, (1, length), generator=generator)
        with torch.no_grad():
            hidden = model.model(ids).last_hidden_state
            golden[f"logprobs.{i}"] = torch.log_softmax(model.lm_head(hidden), dim=-1)[0]
            if mtp and length > 1:
                golden[f"mtp_logprobs.{i}"] = mtp(model, hidden, ids)[0]
        golden[f"prompt.{i}"] = ids[0].to(torch.int32)
        chosen = routes.take()
        if chosen is not None:
            golden[f"routing.{i}"] = chosen.sort(dim=-1).values
    assert routes.margin > LEAST_MARGIN, "a rounding error could change a routing: take other seeds"
    save_file({k: v.contiguous() for k, v in golden.items()}, OUT / f"{name}.golden.safetensors")
    spread = golden["logprobs.2"].std().item()
    print(f"{name:24} {file.stat().st_size:8} bytes  log-probability spread {spread:.2f}  "
          f"closest routing scores {routes.margin:.1e}")


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for seed, (name, config) in enumerate(MODELS.items()):
        make(name, config, 1000 + seed)


if __name__ == "__main__":
    main()
