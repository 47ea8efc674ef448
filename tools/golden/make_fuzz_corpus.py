#!/usr/bin/env python3
"""Writes the seeds of the format fuzzers, src/formats/fuzz_corpus/{gguf,safetensors}.

Usage: make_fuzz_corpus.py        (needs numpy and gguf-py)
"""
import json
import pathlib
import struct

import gguf
import numpy as np

OUT = pathlib.Path(__file__).parents[2] / "src/formats/fuzz_corpus"


def write_gguf(name, types):
    """A file with every kind of metadata value and one tensor of each type."""
    writer = gguf.GGUFWriter(OUT / "gguf" / name, "llama")
    writer.add_uint8("k.u8", 1)
    writer.add_int8("k.i8", -1)
    writer.add_uint16("k.u16", 1)
    writer.add_int16("k.i16", -1)
    writer.add_uint32("k.u32", 1)
    writer.add_int32("k.i32", -1)
    writer.add_float32("k.f32", 0.5)
    writer.add_uint64("k.u64", 1)
    writer.add_int64("k.i64", -1)
    writer.add_float64("k.f64", 0.5)
    writer.add_bool("k.bool", True)
    writer.add_string("k.text", "text")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", ""])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_array("tokenizer.ggml.token_type", [1, 2, 3])
    for t in types:
        block, size = gguf.GGML_QUANT_SIZES[t]
        data = np.arange(size, dtype=np.uint8).reshape(1, size)
        writer.add_tensor(f"t.{t.name}", data, raw_shape=(1, size), raw_dtype=t)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_split():
    part = struct.pack("<4sIQQ", b"GGUF", 3, 0, 2)
    for key, value in (("split.no", 0), ("split.count", 2)):
        part += struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IH", 2, value)
    (OUT / "gguf" / "split.gguf").write_bytes(part)


def write_safetensors():
    header = json.dumps({
        "__metadata__": {"format": "pt"},
        "w": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [4, 8]},
        "w_scale_inv": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "caf\u00e9": {"dtype": "BF16", "shape": [], "data_offsets": [8, 10]},
    }).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(range(10))
    (OUT / "safetensors" / "file").write_bytes(b"f" + data)
    index = json.dumps({"metadata": {"total_size": 4, "x": [1.5, None, {"y": True}]},
                        "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    (OUT / "safetensors" / "index").write_bytes(b"i" + index.encode())


def main():
    for folder in ("gguf", "safetensors"):
        (OUT / folder).mkdir(parents=True, exist_ok=True)
    types = gguf.GGMLQuantizationType
    write_gguf("small.gguf", [types.F32, types.F16, types.Q4_0, types.Q8_0])
    write_gguf("blocks.gguf", [types[n] for n in (
        "BF16", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "MXFP4", "I32", "F64", "Q2_K")])
    write_split()
    write_safetensors()


if __name__ == "__main__":
    main()
