#!/usr/bin/env python3
"""Greedy continuations of 20 prompts, 64 tokens each, ours and llama.cpp's, on one GGUF file.

  compare_greedy.py HADAL MODEL.gguf [THREADS]
prints for every prompt how many tokens agree and, where they part, the gap between our two best
log-probabilities there: under 0.05 it is a near-tie. Exits with 1 if any prompt parts at a larger
gap. Needs llama-cpp-python.
"""
import json
import subprocess
import sys

import llama_cpp
import numpy as np

TOKENS = 64
NEAR_TIE = 0.05
PROMPTS = [
    "Once upon a time", "The capital of France is", "Water boils at", "def fibonacci(n):",
    "In the year 1969,", "The quick brown fox", "To bake bread you need", "A prime number is",
    "My favourite book is", "The theory of relativity", "SELECT name FROM", "Dear Sir or Madam,",
    "The mitochondria is", "1, 1, 2, 3, 5, 8,", "Roses are red,", "The largest planet",
    "Photosynthesis is the process", "import numpy as np", "It was a dark and stormy night",
    "The three laws of thermodynamics",
]


def ours(hadal, model, threads, prompt):
    command = [hadal, "complete", "--model", model, "--threads", threads, "--raw", "--json",
               "--temperature", "0", "--max-tokens", str(TOKENS), "--ignore-eos", "--logprobs", "2",
               prompt]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    gaps = [t["top"][0]["logprob"] - t["top"][1]["logprob"] for t in answer["logprobs"]]
    return answer["prompt_ids"], answer["ids"], gaps


def theirs(llama, prompt):
    llama.reset()
    llama.eval(prompt)
    ids = []
    for _ in range(TOKENS):
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1),
                                       (llama.n_vocab(),))
        ids.append(int(np.argmax(logits)))
        llama.eval(ids[-1:])
    return ids


def main():
    hadal, model = sys.argv[1:3]
    threads = sys.argv[3] if len(sys.argv) > 3 else "2"
    llama = llama_cpp.Llama(model, n_ctx=512, n_threads=int(threads), verbose=False)
    equal = bad = 0
    for prompt in PROMPTS:
        prompt_ids, ids, gaps = ours(hadal, model, threads, prompt)
        peer = theirs(llama, prompt_ids)
        same = next((i for i in range(TOKENS) if ids[i] != peer[i]), TOKENS)
        note = ""
        if same < TOKENS:
            note = f"  gap {gaps[same]:.4f}"
            bad += gaps[same] >= NEAR_TIE
        equal += same == TOKENS
        print(f"{same:3d} of {TOKENS} {prompt!r}{note}", flush=True)
    print(f"{equal} of {len(PROMPTS)} equal, {len(PROMPTS) - equal - bad} part at a near-tie, {bad} elsewhere")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
