#!/usr/bin/env python3
"""When PyTorch and a run of recipes/shakespeare.toml reach each validation loss, on the same cores.

  loss_torch.py RUN TEXT MINUTES THREADS
Trains the model of RUN/train/model/config.json, built by transformers and compiled, from scratch on
TEXT (characters, first 90 % to train, last 10 % to validate) with AdamW as nanoGPT sets it, batches
as large as the run's, for MINUTES of training. Then prints for each loss the seconds of training
that each side took; validation is not counted on either side. Needs torch and transformers.
"""
import json
import math
import sys
import time
import tomllib

import torch
from transformers import AutoConfig, AutoModelForCausalLM

LOSSES = (3.0, 2.5, 2.2, 2.0, 1.9, 1.8, 1.7, 1.65, 1.6, 1.55, 1.5)
PEAK, WARMUP, FINAL = 2e-3, 100, 0.1  # learning rate, its steps of warm-up, its end as a share


def ours(run):
    """Pairs of seconds of training and validation loss."""
    seconds, points = 0.0, []
    with open(f"{run}/train/metrics.jsonl", encoding="utf-8") as lines:
        for line in lines:
            step = json.loads(line)
            seconds += step["seconds"]
            if step.get("validation_loss") is not None:
                points.append((seconds, step["validation_loss"]))
    return points


def theirs(run, text, minutes):
    config = AutoConfig.from_pretrained(f"{run}/train/model/config.json")
    config.use_cache = False
    with open(f"{run}/recipe.toml", "rb") as f:
        stage = next(s for s in tomllib.load(f)["stage"] if s["kind"] == "train")
    length, batch, steps = (stage[k] for k in ("sequence_length", "batch_sequences", "steps"))
    with open(text, encoding="utf-8") as f:
        letters = f.read()
    index = {c: i for i, c in enumerate(sorted(set(letters)))}
    ids = torch.tensor([index[c] for c in letters])
    train, valid = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10:]
    valid = valid[: len(valid) // length * length].view(-1, length)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.99),
                                  weight_decay=0.1, fused=True)
    forward = torch.compile(model)
    seconds, points, step = 0.0, [], 0
    while seconds < 60 * minutes:
        share = min(1.0, step / steps)
        rate = PEAK * min((step + 1) / WARMUP, FINAL + (1 - FINAL) * (1 + math.cos(math.pi * share)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        first = torch.randint(len(train) - length, (batch, 1)) + torch.arange(length)
        begin = time.perf_counter()
        loss = forward(input_ids=train[first], labels=train[first]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step > 2:  # the first two compile
            seconds += time.perf_counter() - begin
        if step % 50 == 0:
            with torch.no_grad():
                total = sum(model(input_ids=v, labels=v).loss.item() * len(v)
                            for v in valid.split(batch))
            points.append((seconds, total / len(valid)))
            print(f"step {step}: {seconds:.0f} s, {points[-1][1]:.4f}", file=sys.stderr, flush=True)
    return points


def reached(points, loss):
    """Seconds, between two validations by a straight line; None before the first or after the last."""
    for (s0, v0), (s1, v1) in zip(points, points[1:]):
        if v1 <= loss <= v0:
            return s0 + (s1 - s0) * (v0 - loss) / (v0 - v1)
    return None


def main():
    run, text, minutes, threads = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    mine, peer = ours(run), theirs(run, text, minutes)
    print("validation loss   ours, s   PyTorch, s   ratio")
    for loss in LOSSES:
        a, b = reached(mine, loss), reached(peer, loss)
        ratio = f"{b / a:5.2f}" if a and b else "    -"
        print(f"{loss:15.2f} {a or math.nan:9.0f} {b or math.nan:12.0f} {ratio}")


if __name__ == "__main__":
    main()
