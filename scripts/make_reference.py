#!/usr/bin/env python3
"""Writes tests/reference/llama: small random LLaMA models with what transformers and peft compute from them.

  usage: make_reference.py [OUTPUT_FOLDER]     (in the environment that scripts/oracles.sh makes)

Each case is a model folder (config.json, model.safetensors) beside reference.safetensors, which holds
  ids, boundaries, labels   sequences laid end to end; labels are shifted already, -100 is ignored
  logits, loss, grad.NAME   fp32: logits of every position, sum of the cross-entropy / supervised tokens, its gradients
  logits_bf16               the same model run in bfloat16
and, where the case has one, adapter/ with peft's own files and lora.safetensors with the same values under the adapter.
"""
import json
import shutil
import sys
from pathlib import Path

import peft
import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

LENGTHS = [7, 1, 12, 12, 5]
VOCAB = 97
COMMON = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, rms_norm_eps=1e-5,
              max_position_embeddings=64, initializer_range=0.25, attn_implementation="eager")
CASES = {
    "multi_head": dict(num_attention_heads=4, num_key_value_heads=4),
    "grouped_query_tied": dict(num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
    "linear_rope": dict(num_attention_heads=4, num_key_value_heads=1, head_dim=16,
                        rope_parameters={"rope_type": "linear", "rope_theta": 50000.0, "factor": 4.0}),
}


def random_model(case: dict, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**COMMON, **case)).float().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def random_batch(seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCAB, (sum(LENGTHS),), generator=generator)
    labels = torch.randint(0, VOCAB, (sum(LENGTHS),), generator=generator)
    labels[torch.rand(len(labels), generator=generator) < 0.4] = -100
    return {"ids": ids, "labels": labels, "boundaries": torch.tensor([0] + LENGTHS).cumsum(0)}


def logits_of(model, batch: dict) -> torch.Tensor:
    rows = batch["ids"].split(LENGTHS)
    return torch.cat([model(input_ids=row[None]).logits[0] for row in rows])


def results(model, batch: dict) -> dict:
    model.zero_grad()
    logits = logits_of(model, batch)
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"], ignore_index=-100)
    loss.backward()
    grads = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), "loss": loss.detach(), **grads}


def write_adapter(model, batch: dict, folder: Path) -> None:
    torch.manual_seed(3)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules="all-linear",
                             modules_to_save=["embed_tokens", "lm_head"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, 0, 0.2)
    wrapped.eval()
    values = results(wrapped, batch)
    renamed = {}
    for name, tensor in values.items():
        for old, new in [("base_model.model.", ""), (".default", ""), (".modules_to_save", "")]:
            name = name.replace(old, new)
        renamed[name] = tensor.contiguous()
    save_file(renamed, folder / "lora.safetensors", {"format": "pt"})
    wrapped.save_pretrained(folder / "adapter", save_embedding_layers=False)
    (folder / "adapter" / "README.md").unlink()
    config_file = folder / "adapter" / "adapter_config.json"
    written = json.loads(config_file.read_text())
    written["base_model_name_or_path"] = "multi_head"
    config_file.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/reference/llama"
    shutil.rmtree(output, ignore_errors=True)
    for number, (name, case) in enumerate(CASES.items()):
        folder = output / name
        model, batch = random_model(case, 11 + number), random_batch(21 + number)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink()
        values = results(model, batch)
        half = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
        with torch.no_grad():
            values["logits_bf16"] = logits_of(half, batch)
        save_file({k: v.contiguous() for k, v in {**batch, **values}.items()}, folder / "reference.safetensors", {"format": "pt"})
        if name == "multi_head":
            write_adapter(model, batch, folder)
    versions = {m.__name__: m.__version__ for m in (transformers, peft, torch, safetensors)}
    (output / "versions.json").write_text(json.dumps({"written_by": "scripts/make_reference.py", **versions}, indent=2) + "\n")


if __name__ == "__main__":
    main()
