#!/usr/bin/env python3
"""Loss and gradients of the tiny checkpoints by PyTorch's autograd.

Writes src/model/testdata/NAME.training.safetensors: tokens [T], first [documents], weights [T], the
losses and grad.PARAMETER for every parameter by its name in the checkpoint. The objective is
  1/W sum_t w_t CE_t + 0.3/W sum_t w_t CE^mtp_t + 1/documents sum 0.01 sum_i f_i P_i
(W: sum of the weights of predicted tokens). Run from the repository root with transformers 5.23
after make_models.py.
"""
import json

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from make_models import OUT, Mtp

LENGTHS = (17, 1, 40, 2)
MTP_LAMBDA, ALPHA = 0.3, 0.01


class Balance:
    """f_i and P_i of every router for one sequence (arXiv:2412.19437 eq. 17-20)."""

    def __init__(self, modules):
        self.loss = 0.0
        for module in modules:
            if type(module).__name__.lower().endswith("topkrouter"):
                module.register_forward_hook(self.hook)

    def hook(self, module, args, _):
        hidden = args[0].reshape(-1, module.weight.shape[-1])
        logits = torch.nn.functional.linear(hidden, module.weight)
        bias = getattr(module, "e_score_correction_bias", None)
        scores = logits.softmax(-1) if bias is None else logits.sigmoid()
        top = (scores if bias is None else scores + bias).topk(module.top_k, dim=-1).indices
        experts = scores.shape[-1]
        counts = torch.bincount(top.flatten(), minlength=experts).float()
        f = counts * experts / (module.top_k * len(scores))
        p = (scores / scores.sum(-1, keepdim=True)).mean(0)
        self.loss = self.loss + ALPHA * (f * p).sum()

    def take(self):
        loss, self.loss = self.loss, 0.0
        return loss


MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def stored_names(name, grad, mixtral):
    """Name and gradient of each tensor of the checkpoint that a parameter is stored as."""
    for stored, part in split_experts(name, grad):
        if mixtral and ".mlp." in stored:
            head, tail = stored.split(".mlp.")
            for ours, theirs in MIXTRAL.items():
                tail = tail.replace(ours, theirs)
            stored = head + ".block_sparse_moe." + tail
        yield stored, part


def split_experts(name, grad):
    if name.endswith("experts.gate_up_proj"):
        stem = name.removesuffix("gate_up_proj")
        for e, pair in enumerate(grad):
            gate, up = pair.chunk(2)
            yield f"{stem}{e}.gate_proj.weight", gate
            yield f"{stem}{e}.up_proj.weight", up
    elif name.endswith("experts.down_proj"):
        stem = name.removesuffix("down_proj")
        for e, down in enumerate(grad):
            yield f"{stem}{e}.down_proj.weight", down
    else:
        yield name, grad


def load_mtp(mtp, tensors, layer):
    prefix = f"model.layers.{layer}."
    for name, value in mtp.state_dict().items():
        if name == "norm.weight":
            value.copy_(tensors[prefix + "shared_head.norm.weight"])
        elif "experts." in name and name.endswith(("gate_up_proj", "down_proj")):
            stem = prefix + name.removeprefix("block.")
            stem = stem.removesuffix("gate_up_proj").removesuffix("down_proj")
            for e in range(value.shape[0]):
                if name.endswith("gate_up_proj"):
                    value[e].copy_(torch.cat([tensors[f"{stem}{e}.gate_proj.weight"],
                                              tensors[f"{stem}{e}.up_proj.weight"]]))
                else:
                    value[e].copy_(tensors[f"{stem}{e}.down_proj.weight"])
        else:
            value.copy_(tensors[prefix + name.removeprefix("block.")])


def make(name, seed):
    folder = OUT / name
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager",
                                                 dtype=torch.float32)
    model.config._experts_implementation = "eager"
    config = model.config
    model.train()
    mtp = None
    layers = config.num_hidden_layers
    if json.loads((folder / "config.json").read_text()).get("num_nextn_predict_layers"):
        mtp = Mtp(config)
        with torch.no_grad():
            load_mtp(mtp, load_file(folder / "model.safetensors"), layers)
        mtp.train()
    balance = Balance([m for part in (model, mtp) if part for m in part.modules()])

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.vocab_size, (sum(LENGTHS),), generator=generator)
    weights = (torch.rand(len(tokens), generator=generator) > 0.25).float()
    weights[3] = 0.5
    first = [sum(LENGTHS[:i]) for i in range(len(LENGTHS))]
    total = sum(weights[f + 1:f + n].sum() for f, n in zip(first, LENGTHS))

    ce = torch.nn.functional.nll_loss
    main = mtp_loss = balanced = torch.zeros(())
    for f, n in zip(first, LENGTHS):
        ids, w = tokens[None, f:f + n], weights[f:f + n]
        hidden = model.model(ids).last_hidden_state
        logprobs = torch.log_softmax(model.lm_head(hidden), dim=-1)[0]
        main = main + (ce(logprobs[:-1], ids[0, 1:], reduction="none") * w[1:]).sum()
        if mtp and n > 1:
            further = mtp(model, hidden, ids)[0]
            if n > 2:
                mtp_loss = mtp_loss + (ce(further[:-1], ids[0, 2:], reduction="none")
                                       * w[2:]).sum()
        balanced = balanced + balance.take()
    loss = main / total + MTP_LAMBDA * mtp_loss / total + balanced / len(LENGTHS)
    loss.backward()

    out = dict(tokens=tokens.to(torch.int32), first=torch.tensor(first, dtype=torch.int32),
               weights=weights, loss=main.detach().reshape(1), total=total.reshape(1),
               mtp_loss=mtp_loss.detach().reshape(1),
               balance_loss=torch.as_tensor(balanced).detach().reshape(1))
    for key, p in model.named_parameters():
        if p.grad is not None:
            out |= {f"grad.{n}": g for n, g in stored_names(key, p.grad, name == "mixtral")}
    if mtp:
        for key, p in mtp.named_parameters():
            prefix = f"model.layers.{layers}."
            full = prefix + ("shared_head.norm.weight" if key == "norm.weight"
                             else key.removeprefix("block."))
            if p.grad is not None:
                out |= {f"grad.{n}": g for n, g in stored_names(full, p.grad, False)}
    save_file({k: v.contiguous() for k, v in out.items()}, OUT / f"{name}.training.safetensors")
    (OUT / f"{name}.training.safetensors").chmod(0o644)
    print(f"{name:20} loss {main.item() / total.item():.5f}  mtp {mtp_loss.item():.4f}  "
          f"balance {float(balanced):.5f}  {len(out) - 7} gradients")


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for seed, name in enumerate(("deepseek_v3", "deepseek_v2_lite", "llama", "qwen2", "qwen3",
                                 "mixtral")):
        make(name, 2000 + seed)


if __name__ == "__main__":
    main()
