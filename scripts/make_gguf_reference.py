#!/usr/bin/env python3
"""Writes tests/reference/gguf.json: blocks of every quantized type that llama2zh reads, and what they hold.

  dequantize  for each type: random blocks (hex) and their floats (hex, little-endian fp32), by the Python package gguf
  quantize    one matrix of floats with awkward rows, and its blocks: Q8_0 and Q4_0 by the package gguf, Q6_K, which it
              lacks, by llama.cpp's own library (ggml_quantize_chunk)

Usage: make_gguf_reference.py --ggml LIBGGML_BASE.so [--output tests/reference/gguf.json]
Needs: gguf, numpy, a libggml-base.so of a llama.cpp build.
"""

import argparse
import ctypes
import importlib.metadata
import json
import pathlib

import gguf
import numpy as np

BLOCKS = 3
READ = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Where a block holds fp16 numbers: random bytes there could be NaN.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_blocks(rng, name):
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for offset in HALVES[name]:
        scales = rng.normal(0, 0.02, BLOCKS).astype(np.float16)
        blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(BLOCKS, 2)
    return blocks


def awkward_rows(rng):
    rows = rng.normal(0, 0.05, (6, 256)).astype(np.float32)
    rows[1, 32:96] = 0  # blocks of zeros
    rows[1, 128:160] = -0.5
    rows[2] = np.tile(np.arange(-127, 129, dtype=np.float32), 1)[:256] / 2  # ties
    rows[3] *= 1e-20
    rows[4, ::17] = 40
    rows[5] = 0
    return rows


def quantize_by_ggml(library, rows, name):
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros(rows.size // block * size, dtype=np.uint8)
    function = ctypes.CDLL(library).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                         ctypes.c_int64, ctypes.c_void_p]
    assert function(int(kind), rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1], None) == out.size
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ggml", required=True)
    parser.add_argument("--output", default="tests/reference/gguf.json")
    options = parser.parse_args()
    rng = np.random.default_rng(7)
    dequantize = {}
    for name in READ:
        blocks = random_blocks(rng, name)
        floats = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
        dequantize[name] = {"blocks": blocks.tobytes().hex(), "floats": floats.astype("<f4").tobytes().hex()}
    rows = awkward_rows(rng)
    quantize = {"rows": rows.shape[0], "columns": rows.shape[1], "floats": rows.astype("<f4").tobytes().hex()}
    for name in ["Q8_0", "Q4_0"]:
        blocks = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[name])
        assert (blocks.reshape(-1) == quantize_by_ggml(options.ggml, rows, name)).all(), name
        quantize[name] = blocks.tobytes().hex()
    quantize["Q6_K"] = quantize_by_ggml(options.ggml, rows, "Q6_K").tobytes().hex()
    result = {"versions": {"gguf": importlib.metadata.version("gguf")}, "dequantize": dequantize, "quantize": quantize}
    pathlib.Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
