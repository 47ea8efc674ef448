#!/usr/bin/env python3
"""Writes src/tensor/testdata/quant.bin: random blocks of every GGUF type with their f32 values.

Usage: make_quant.py LIBGGML_DIR      (needs numpy and gguf-py; LIBGGML_DIR holds libggml-base.so)

The values come from gguf-py and are compared bit for bit with llama.cpp's own decoders.
File: per type u32 name length, name, u32 bytes, u32 values, the block bytes, the values (f32).
"""
import ctypes
import pathlib
import struct
import sys

import gguf
import numpy as np

VALUES = 1024
OUT = pathlib.Path(__file__).parents[2] / "src/tensor/testdata/quant.bin"
# Byte offsets of the f16 scales within a block.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
    "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
    "MXFP4": [],
}


def random_blocks(rng, name, count, size):
    """Random bytes; the scales are finite, of both signs, a quarter of them denormal."""
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALVES[name]:
        bits = rng.integers(0, 0x7C00, count).astype(np.uint16)
        bits[::4] = rng.integers(0, 0x400, len(bits[::4]))
        bits |= rng.integers(0, 2, count).astype(np.uint16) << 15
        blocks[:, offset : offset + 2] = bits.view(np.uint8).reshape(count, 2)
    if name == "MXFP4":
        blocks[:4, 0] = [0, 1, 2, 254]
    return blocks


def llama_cpp_decoder(library, name):
    function = getattr(library, f"dequantize_row_{name.lower().replace('_k', '_K')}")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = None
    return function


def main():
    library = ctypes.CDLL(str(pathlib.Path(sys.argv[1]) / "libggml-base.so"))
    rng = np.random.default_rng(20240607)
    with open(OUT, "wb") as f:
        for name in HALVES:
            qtype = gguf.GGMLQuantizationType[name]
            block, size = gguf.GGML_QUANT_SIZES[qtype]
            blocks = random_blocks(rng, name, VALUES // block, size)
            with np.errstate(all="ignore"):
                values = gguf.quants.dequantize(blocks, qtype).astype(np.float32).reshape(-1)
            other = np.empty(VALUES, np.float32)
            llama_cpp_decoder(library, name)(blocks.ctypes.data, other.ctypes.data, VALUES)
            same = values.view(np.uint32) == other.view(np.uint32)
            if not same.all():
                i = int(np.argmin(same))
                print(f"{name}: gguf-py {values[i]} != llama.cpp {other[i]} at {i}, "
                      f"{int((~same).sum())} values differ")
            f.write(struct.pack("<I", len(name)) + name.encode())
            f.write(struct.pack("<II", blocks.size, values.size))
            f.write(blocks.tobytes() + values.tobytes())
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
