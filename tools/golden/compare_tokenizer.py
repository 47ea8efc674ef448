#!/usr/bin/env python3
"""Compares ids with PyPI `tokenizers` on generated texts, for every tokenizer of testdata/.

    HADAL_ENCODE_JSON=FILE tokenizer_test --gtest_filter=Stdin.*   reads texts, writes ids; so:
    pip install tokenizers && python3 tools/golden/compare_tokenizer.py build/release/src/tokenizer/tokenizer_test
"""
import os
import pathlib
import struct
import subprocess
import sys

from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import make_tokenizer  # noqa: E402


def ours(binary, path, sample):
    raw = [t.encode() for t in sample]
    data = b"".join(struct.pack("<I", len(t)) + t for t in raw)
    env = dict(os.environ, HADAL_ENCODE_JSON=str(path))
    out = subprocess.run([binary, "--gtest_filter=Stdin.*", "--gtest_brief=1"], input=data, env=env,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True).stderr
    at, result = 0, []
    for _ in sample:
        n, = struct.unpack_from("<I", out, at)
        result.append(list(struct.unpack_from(f"<{n}i", out, at + 4)))
        at += 4 + 4 * n
    return result


def main():
    binary, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    sample = make_tokenizer.texts(count, seed=3)
    failed = 0
    paths = [pathlib.Path(p) for p in sys.argv[3:]] or sorted(
        p for p in make_tokenizer.DATA.glob("tokenizer_*.json")
        if p.stem not in ("tokenizer_texts", "tokenizer_ids"))
    for path in paths:
        reference = Tokenizer.from_file(str(path))
        want = [e.ids for e in reference.encode_batch(sample, add_special_tokens=False)]
        got = ours(binary, path, sample)
        bad = [(t, g, w) for t, g, w in zip(sample, got, want) if g != w]
        failed += len(bad)
        print(f"{path.name}: {count} texts, {sum(map(len, want))} ids, {len(bad)} differ", flush=True)
        for text, g, w in bad[:3]:
            print(f"  {text!r}\n    ours      {g}\n    reference {w}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
