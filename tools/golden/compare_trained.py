#!/usr/bin/env python3
"""Trains a tokenizer of every kind and compares its ids with PyPI `tokenizers`, on the corpus and on generated texts.

    pip install tokenizers && python3 tools/golden/compare_trained.py HADAL TOKENIZER_TEST CORPUS.jsonl [TEXTS [VOCABULARY]]

CORPUS may be compressed when `zstd` is installed. Whole documents are compared too, in pieces of at most 20,000 characters.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import compare_tokenizer  # noqa: E402
import make_tokenizer  # noqa: E402


def corpus_texts(path, count):
    raw = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout if path.endswith(".zst") \
        else pathlib.Path(path).read_bytes()
    rows = [json.loads(line)["text"] for line in raw.decode().splitlines()]
    step = max(1, len(rows) // count)
    return [text[at:at + 20000] for text in rows[::step] for at in range(0, min(len(text), 60000), 20000)]


def main():
    hadal, binary, corpus = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 3000
    vocabulary = sys.argv[5] if len(sys.argv) > 5 else "8192"
    sample = corpus_texts(corpus, count) + make_tokenizer.texts(count, seed=5)
    failed = 0
    for pattern in ("deepseek-v3", "gpt-2"):
        for digits in ("whole", "single", "threes"):
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([hadal, "data", "tokenizer", corpus, "-o", folder, "--vocab", vocabulary,
                                "--pattern", pattern, "--digits", digits], check=True, stdout=subprocess.DEVNULL)
                path = pathlib.Path(folder, "tokenizer.json")
                reference = Tokenizer.from_file(str(path))
                want = [e.ids for e in reference.encode_batch(sample, add_special_tokens=False)]
                got = compare_tokenizer.ours(binary, path, sample)
            bad = [text for text, g, w in zip(sample, got, want) if g != w]
            failed += len(bad)
            print(f"{pattern} {digits}: {len(sample)} texts, {sum(map(len, want))} ids, {len(bad)} differ", flush=True)
            for text in bad[:2]:
                print(f"  {text[:200]!r}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
