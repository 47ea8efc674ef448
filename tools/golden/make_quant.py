#!/usr/bin/env python3
"""Writes the golden files of the block types under src/tensor/testdata.

Usage: make_quant.py LIBGGML_DIR      (needs numpy and gguf-py; LIBGGML_DIR holds libggml-base.so)

quant.bin       random blocks of every type with their values, which come from gguf-py and are
                compared bit for bit with llama.cpp's own decoders. Per type: u32 name length,
                name, u32 bytes, u32 values, the block bytes, the values (f32).
q8_0.bin        the first 1024 bell-shaped values as llama.cpp encodes them in Q8_0.
quant_rmse.txt  per type: root mean square error of llama.cpp's encoder on the bell-shaped values,
                relative to their own, without importance; the same weighted by importance, with it.
"""
import ctypes
import pathlib
import struct
import sys

import gguf
import numpy as np

VALUES = 1024
OUT = pathlib.Path(__file__).parents[2] / "src/tensor/testdata"
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


def bell_values(count):
    """Sums of twelve draws of a linear congruential generator: exact in f32, easy to repeat."""
    state, values = 1, np.empty(count, np.float32)
    for i in range(count):
        total = 0
        for _ in range(12):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            total += state >> 16
        values[i] = (total - 6 * 65536) / 65536
    return values


def encode(library, name, values, importance):
    """importance: None or one weight a value; llama.cpp takes one row of them, so rows = 1."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    out = np.empty(values.size // block * size, np.uint8)
    function = getattr(library, f"quantize_{name.lower().replace('_k', '_K')}")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                         ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    weights = None if importance is None else importance.ctypes.data
    assert function(values.ctypes.data, out.ctypes.data, 1, values.size, weights) == out.size
    return out


def relative_rmse(name, encoded, values, weights):
    decoded = gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType[name]).reshape(-1)
    error = decoded.astype(np.float64) - values
    return np.sqrt(np.sum(weights * error**2) / np.sum(weights * values.astype(np.float64) ** 2))


def write_encoders(library):
    values = bell_values(65536)
    importance = bell_values(2 * 65536)[65536:] ** 2 + np.float32(0.01)
    (OUT / "q8_0.bin").write_bytes(encode(library, "Q8_0", values[:1024], None).tobytes())
    with open(OUT / "quant_rmse.txt", "w") as f:
        for name in ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]:
            plain = relative_rmse(name, encode(library, name, values, None), values, 1.0)
            weighted = relative_rmse(name, encode(library, name, values, importance), values,
                                     importance.astype(np.float64))
            f.write(f"{name} {plain:.6f} {weighted:.6f}\n")


def main():
    library = ctypes.CDLL(str(pathlib.Path(sys.argv[1]) / "libggml-base.so"))
    write_encoders(library)
    rng = np.random.default_rng(20240607)
    with open(OUT / "quant.bin", "wb") as f:
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


if __name__ == "__main__":
    main()
