#!/usr/bin/env python3
"""Compares `llama2zh vocab report` with the Python sentencepiece library and Python's codecs.

  reports_oracle.py LLAMA2ZH_BINARY SHARED_FOLDER

On real text of SHARED_FOLDER/data/pretrain, for LLaMA-2's tokenizer and the 55,296 one: tokens, byte-fallback
tokens, characters and bytes per domain are equal; so are the pieces that a text does not use, those that their own
text does not encode to (sentencepiece without its dummy prefix), and the old ones among these that it did before; so is
the share of GB 2312's and Big5's characters that are one token.

Needs sentencepiece. Exit status 0 if all is equal, 77 without the data.
"""

import json
import pathlib
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from oracle_program import check_same, failures, run_program

TEXTS = ["classics_modern_zh.txt", "zhwiki_trad_drcd_dev.txt", "d2l_zh.txt"]


def lines_of(path):
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    return [line for line in text.split("\n") if line]


# Standard tables by codec: (high bytes of the first and the last row, encoding).
def table(first, last, encoding):
    characters = []
    for code in range(first, last + 1):
        try:
            text = bytes([code >> 8, code & 0xFF]).decode(encoding)
        except UnicodeDecodeError:
            continue
        if len(text) == 1:
            characters.append(text)
    return characters


def reference(model, domains):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(model))
    used, counts = set(), {}
    for name, lines in domains.items():
        encoded = sp.encode(lines)
        tokens = [token for ids in encoded for token in ids]
        used.update(tokens)
        counts[name] = {
            "lines": len(lines),
            "characters": sum(map(len, lines)),
            "bytes": sum(len(line.encode()) for line in lines),
            "tokens": len(tokens),
            "byte_tokens": sum(map(sp.is_byte, tokens)),
        }
    ids = [i for i in range(sp.vocab_size()) if not (sp.is_byte(i) or sp.is_control(i) or sp.is_unknown(i))]
    return sp, counts, ids, [sp.id_to_piece(i) for i in ids if i not in used]


def itself(model):
    """piece -> whether its own text, inside a text, encodes to it alone."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.read_bytes())
    proto.normalizer_spec.add_dummy_prefix = False
    sp = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    ids = [i for i in range(sp.vocab_size()) if not (sp.is_byte(i) or sp.is_control(i) or sp.is_unknown(i))]
    return {sp.id_to_piece(i): sp.encode(sp.id_to_piece(i)) == [i] for i in ids}


def check_equal(what, got, expected):
    check_same(got == expected, f"{what}: {got}, expected {expected}")


def check_pieces(what, got, expected):
    odd = set(got) ^ set(expected)
    check_same(not odd and len(got) == len(expected), f"{what}: {len(got)}, expected {len(expected)}; {sorted(odd)[:10]}")
    print(f"{what}: {len(got)}")


def compare(name, got, model, domains):
    sp, counts, ids, dead = reference(model, domains)
    for domain, expected in counts.items():
        check_equal(f"{name} {domain}", {key: got["domains"][domain][key] for key in expected}, expected)
    check_equal(f"{name} text pieces", got["text_pieces"], len(ids))
    check_pieces(f"{name} dead pieces", got["dead_pieces"], dead)
    for key, span in {
        "gb2312_level1": (0xB0A1, 0xD7FE, "gb2312"),
        "gb2312_level2": (0xD8A1, 0xF7FE, "gb2312"),
        "big5_level1": (0xA440, 0xC67E, "big5"),
        "big5_level2": (0xC940, 0xF9D5, "big5"),
    }.items():
        characters = table(*span)
        # A Chinese character encodes to itself exactly where the vocabulary has it.
        known = sum(sp.piece_to_id(c) != sp.unk_id() for c in characters)
        check_equal(f"{name} {key}", (got["coverage"][key]["characters"], got["coverage"][key]["covered"]), (len(characters), known))


def main():
    binary, shared = sys.argv[1], pathlib.Path(sys.argv[2])
    if not (shared / "data/tokenizers").exists():
        print(f"skipped: no {shared}/data/tokenizers")
        return 77
    models = [shared / "data/tokenizers" / name for name in ("llama2_tokenizer.model", "chinese_llama2_55296.model")]
    files = [shared / "data/pretrain" / name for name in TEXTS]
    out = run_program(binary, "vocab", "report", "--tokenizer", *models, "--file", *files, "--json")
    report = json.loads(out)
    domains = {path.name: lines_of(path) for path in files}
    for model, got in zip(models, report["tokenizers"]):
        compare(model.name, got, model, domains)
    before = itself(models[0])
    for model, got in zip(models, report["tokenizers"]):
        now = itself(model)
        check_pieces(f"{model.name} unreachable", got["unreachable_pieces"], [piece for piece in now if not now[piece]])
        if "changed" in got:
            displaced = [piece for piece in now if not now[piece] and before.get(piece)]
            check_pieces(f"{model.name} displaced", got["changed"]["displaced_pieces"], displaced)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
