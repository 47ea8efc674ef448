#!/usr/bin/env python3
"""Training speed of PyTorch on the CPU: the peer of `hadal bench --train`.

  train_torch.py CONFIG.json BATCH SEQUENCE STEPS THREADS
builds the model by transformers from the same config.json, runs forward, loss, backward, clipping
and AdamW on random tokens, eager and compiled, f32 and bf16 autocast, and prints one JSON line a
variant: name, tokens_per_second (median step), peak_rss_bytes. Needs torch and transformers.
"""
import json
import resource
import statistics
import subprocess
import sys
import time

VARIANTS = ("eager f32", "eager bf16", "compiled f32", "compiled bf16")


def measure(variant, config_path, batch, sequence, steps, threads):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(config_path)
    config.use_cache = False
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().train()
    forward = torch.compile(model) if variant.startswith("compiled") else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    tokens = torch.randint(config.vocab_size, (batch, sequence))
    seconds = []
    for step in range(steps + 2):  # the first two warm up and compile
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.endswith("bf16")):
            loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= 2:
            seconds.append(time.perf_counter() - begin)
    return {"name": variant, "tokens_per_second": batch * sequence / statistics.median(seconds),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main():
    config, batch, sequence, steps, threads = sys.argv[1], *map(int, sys.argv[2:6])
    if len(sys.argv) > 6:  # one variant, in a process of its own so that memory counts alone
        print(json.dumps(measure(sys.argv[6], config, batch, sequence, steps, threads)))
        return
    for variant in VARIANTS:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:6], variant],
                              capture_output=True, text=True, timeout=900, check=False)
        lines = [l for l in done.stdout.splitlines() if l.startswith("{")]
        if done.returncode == 0 and lines:
            print(lines[-1], flush=True)
        else:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            print(json.dumps({"name": variant, "error": reason[:200]}), flush=True)


if __name__ == "__main__":
    main()
