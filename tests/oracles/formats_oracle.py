"""What torch and safetensors say about files of tensors: llama2zh reads theirs, they read llama2zh's.

  formats_oracle.py make DIR    writes all.safetensors, and all.bin with pickle protocol 2 and all4.bin with 4
  formats_oracle.py check DIR   reads ours.safetensors, ours.bin (weights_only) and the shards of
                                model.safetensors.index.json; fails unless each holds exactly the tensors below

Tensors: for every type T of TYPES, "T" = arange(24) in T as [2, 3, 4]; "scalar" = 2.5; "empty" = [0, 4].
"""

import json
import pathlib
import sys

import safetensors.torch
import torch

TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64",
         "float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"]


def expected():
    tensors = {name: torch.arange(24).to(getattr(torch, name)).reshape(2, 3, 4) for name in TYPES}
    return tensors | {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}


def compare(where, tensors):
    want = expected()
    assert tensors.keys() == want.keys(), (where, sorted(tensors), sorted(want))
    for name, tensor in tensors.items():
        assert tensor.dtype == want[name].dtype, (where, name, tensor.dtype)
        assert tensor.shape == want[name].shape, (where, name, tensor.shape)
        assert torch.equal(tensor.double(), want[name].double()), (where, name, tensor)


def make(folder):
    safetensors.torch.save_file(expected(), folder / "all.safetensors")
    torch.save(expected(), folder / "all.bin")
    torch.save(expected(), folder / "all4.bin", pickle_protocol=4)


def check(folder):
    compare("ours.safetensors", safetensors.torch.load_file(folder / "ours.safetensors"))
    compare("ours.bin", torch.load(folder / "ours.bin", weights_only=True))
    compare("ours.bin, mapped", torch.load(folder / "ours.bin", weights_only=True, mmap=True))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = {}
    for name, file in index["weight_map"].items():
        with safetensors.safe_open(folder / file, framework="pt") as shard:
            assert shard.metadata() == {"format": "pt"}, shard.metadata()
            shards[name] = shard.get_tensor(name)
    compare("shards", shards)
    assert len(set(index["weight_map"].values())) > 1
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in shards.values())


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
