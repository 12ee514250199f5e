#!/usr/bin/env python3
"""Writes tests/formats/torch_fixtures.h: small torch.save archives, zlib-compressed, in base64.

Run with torch 2.15; the tests in tests/formats/torch_zip_test.cpp know what the archives hold.
"""
import base64
import collections
import io
import pathlib
import zlib

import torch


def state_dict():
    base = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    state = collections.OrderedDict(
        w=torch.nn.Parameter(base.clone()), view=base.t(), tail=base[1], tied=base,
        bf=torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        u16=torch.tensor([65535, 1], dtype=torch.uint16),
        f8=torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
        scalar=torch.tensor(7), empty=torch.zeros(0, 4))
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    return state


def main():
    lines = ["#pragma once", "", "#include <cstddef>", "", "namespace llama2zh {", "",
             f"// Made by scripts/make_torch_fixtures.py with torch {torch.__version__}."]
    for protocol in (2, 4):
        buffer = io.BytesIO()
        torch.save(state_dict(), buffer, pickle_protocol=protocol)
        text = base64.b64encode(zlib.compress(buffer.getvalue(), 9)).decode()
        lines.append(f"inline constexpr size_t kTorchProtocol{protocol}Size = {len(buffer.getvalue())};")
        lines.append(f"inline constexpr char kTorchProtocol{protocol}[] =")
        lines += [f'    "{text[i:i + 92]}"' for i in range(0, len(text), 92)]
        lines[-1] += ";"
    lines += ["", "}  // namespace llama2zh", ""]
    header = pathlib.Path(__file__).parent.parent / "tests/formats/torch_fixtures.h"
    header.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
