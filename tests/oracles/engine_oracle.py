"""What the engine answers, beside transformers on the same files, in fp32.

  usage: engine_oracle.py LLAMA2ZH SOURCE_DIR

On a tiny model with random weights over a trained tokenizer:
  - beam search: ids of the best beam for several numbers of beams, length penalties and ways to stop;
  - embeddings: mean and last hidden states, plain and of length 1, of `embed`;
  - schemas: answers of `generate --json-schema` by a model of no sense, validated by the jsonschema package.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jsonschema
import torch
import transformers

from oracle_program import Program

PROMPTS = ["人工智能", "什么是机器学习？", "Hello"]
BEAMS = [
    {"num_beams": 2},
    {"num_beams": 4, "length_penalty": 0.5},
    {"num_beams": 5, "length_penalty": 1.5, "early_stopping": "true"},
    {"num_beams": 3, "early_stopping": "never"},
]

SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 10}, "age": {"type": "integer"},
     "colours": {"type": "array", "items": {"enum": ["红", "green", None, 3]}, "minItems": 1, "maxItems": 4}}, "required": ["name", "colours"],
     "additionalProperties": False},
    {"type": "array", "items": {"type": "string", "pattern": "^[a-f人]{1,3}-\\d{2}$"}, "minItems": 1, "maxItems": 3},
    {"$defs": {"node": {"type": "object", "properties": {"value": {"type": ["number", "null"]}, "next": {"anyOf": [
        {"type": "null"}, {"$ref": "#/$defs/node"}]}}, "required": ["value", "next"]}}, "$ref": "#/$defs/node"},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"], "additionalProperties": {"type": "boolean"}},
               {"type": "object", "properties": {"kind": {"const": "b"}, "x": {"type": "null"}}, "required": ["kind", "x"]},
               {"type": "integer"}, {"type": "string", "minLength": 2, "maxLength": 6}]},
]


class Oracle(Program):
    def build(self):
        self.write_turns()
        self.make_model("model")
        self.model = transformers.LlamaForCausalLM.from_pretrained(self.folder / "model", dtype=torch.float32).eval()

    def ids(self, text):
        lines = self.run("tokenize", "--model", "zh.model", "--text", text, "--json")
        return [1, *json.loads(lines)["ids"]]

    def check_beams(self):
        failures = 0
        for options in BEAMS:
            for text in PROMPTS:
                prompt = self.ids(text)
                stopping = {"true": True, "false": False, "never": "never"}[options.get("early_stopping", "false")]
                expected = self.model.generate(
                    torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
                    num_beams=options["num_beams"], max_new_tokens=24, length_penalty=options.get("length_penalty", 1.0),
                    early_stopping=stopping, eos_token_id=2, pad_token_id=2)[0].tolist()[len(prompt):]
                expected = expected[:expected.index(2)] if 2 in expected else expected
                flags = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
                got = json.loads(self.run("generate", "--model", "model", "--raw", "--prompt", text, "--json", "--temperature", 0, "--dtype",
                                          "float32", "--max-new-tokens", 24, *flags))
                if got["ids"] != expected or got["prompt_tokens"] != len(prompt):
                    failures += 1
                    print(f"beams {options} {text}: {got['ids']}, transformers {expected}")
        print(f"beams: {len(BEAMS) * len(PROMPTS)} cases, {failures} differ")
        return failures

    def check_embeddings(self):
        rows = self.folder / "rows.jsonl"
        texts = [*PROMPTS, "人工智能是计算机科学的一个分支。" * 12]
        rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        worst = 0.0
        for pooling in ["mean", "last"]:
            for flags in [[], ["--normalize"], ["--max-step-tokens", 50]]:
                self.run("embed", "--model", "model", "--dtype", "float32", "--input", rows, "--output", "out.jsonl", "--overwrite", "--pooling",
                         pooling, *flags)
                got = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
                for text, row in zip(texts, got, strict=True):
                    with torch.no_grad():
                        hidden = self.model.model(torch.tensor([self.ids(text)])).last_hidden_state[0]
                    expected = hidden.mean(0) if pooling == "mean" else hidden[-1]
                    if "--normalize" in flags:
                        expected = torch.nn.functional.normalize(expected, dim=0)
                    worst = max(worst, (torch.tensor(row["embedding"]) - expected).abs().max().item())
        print(f"embeddings: they differ by {worst:.1e}")
        return int(worst > 1e-4)

    def check_schemas(self):
        failures = whole = 0
        rows = self.folder / "asks.jsonl"
        rows.write_text("".join(json.dumps({"prompt": f"{i}"}) + "\n" for i in range(40)), encoding="utf-8")
        for schema in [*SCHEMAS, None]:
            (self.folder / "schema.json").write_text(json.dumps(schema, ensure_ascii=False), encoding="utf-8")
            flags = ["--json-object"] if schema is None else ["--json-schema", "schema.json"]
            self.run("generate", "--model", "model", "--raw", "--input", rows, "--output", "valid.jsonl", "--overwrite", "--temperature", 1,
                     "--max-new-tokens", 240, *flags)
            validator = jsonschema.Draft202012Validator(schema if schema is not None else {"type": "object"})
            for line in (self.folder / "valid.jsonl").read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                if row.get("finish_reason") == "length":
                    continue
                whole += 1
                try:
                    validator.validate(json.loads(row["text"]))
                except (KeyError, ValueError, jsonschema.ValidationError) as error:
                    failures += 1
                    print(f"schema {schema}: {row}: {str(error)[:200]}")
        print(f"schemas: {whole} answers, {failures} not valid")
        return failures + int(whole < 60)


def main():
    program, source = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(program, source, pathlib.Path(folder))
        oracle.build()
        failures = oracle.check_beams() + oracle.check_embeddings() + oracle.check_schemas()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
