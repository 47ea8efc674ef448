#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_table.inc: for runs of code points, the classes that the reference's
regular expressions (PyPI `tokenizers`) give them, so that both split text alike.

    pip install tokenizers && python3 tools/golden/make_unicode_table.py
"""
import pathlib

import tokenizers
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

CLASSES = [r"\p{L}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}", r"\s", r"\w", r"\d"]


def main():
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    text = "".join(map(chr, points))
    flags = [0] * 0x110000
    for bit, pattern in enumerate(CLASSES):
        splitter = Split(Regex(pattern + "+"), "removed", invert=True)
        for _, (begin, end) in splitter.pre_tokenize_str(text):
            for c in points[begin:end]:
                flags[c] |= 1 << bit
    out, last = [], None
    for c, f in enumerate(flags):
        if f != last:
            out.append(f"0x{c << 8 | f:x}")
            last = f
    lines, line = [], ""
    for item in out:
        if len(line) + len(item) + 2 > 100:
            lines.append(line.rstrip())
            line = ""
        line += item + ", "
    lines.append(line.rstrip())
    path = pathlib.Path(__file__).parents[2] / "src/tokenizer/unicode_table.inc"
    path.write_text(f"// Made by tools/golden/make_unicode_table.py with tokenizers {tokenizers.__version__}:\n"
                    "// (first code point of a run) << 8 | its classes, lowest bit first: L M N P S space word digit\n"
                    + "\n".join(lines) + "\n")
    print(f"{len(out)} runs, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
