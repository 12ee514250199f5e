#!/usr/bin/env python3
"""Writes tests/reference/train: twenty optimizer steps of LoRA training as peft and torch take them.

  usage: make_training_reference.py [OUTPUT_FOLDER]     (in the environment that scripts/oracles.sh makes)

  base/                 a small random LLaMA (transformers)
  adapter/              the adapter at the start, saved by peft: LoRA on the seven projections, embed_tokens and lm_head
  steps.json            the rows (ids, targets), the options, and for both ways to weigh the loss every step's loss,
                        gradient norm and learning rate
  token.safetensors, micro_batch_mean.safetensors      the adapters after the last step, under peft's names

Rows go in file order, padded, two a micro-batch, four micro-batches a step, steps end with the epoch.
"""
import json
import math
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup
from transformers.trainer_pt_utils import get_parameter_names

VOCAB, BLOCK, ROWS = 48, 16, 21
OPTIONS = dict(micro_batch_size=2, gradient_accumulation_steps=4, max_steps=20, learning_rate=3e-3, warmup_ratio=0.1,
               weight_decay=0.1, max_grad_norm=0.5, rank=4, alpha=6.0, block_size=BLOCK)


def make_base(folder: Path) -> None:
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
                         initializer_range=0.2, rms_norm_eps=1e-5)
    LlamaForCausalLM(config).save_pretrained(folder)


def make_adapter(base: Path, folder: Path) -> None:
    torch.manual_seed(2)
    config = LoraConfig(r=OPTIONS["rank"], lora_alpha=OPTIONS["alpha"], lora_dropout=0.0, task_type="CAUSAL_LM",
                        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                        modules_to_save=["embed_tokens", "lm_head"])
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(folder)


def make_rows() -> list:
    torch.manual_seed(3)
    rows = []
    for _ in range(ROWS):
        length = int(torch.randint(5, BLOCK + 1, ()))
        targets = (torch.rand(length) < 0.6).int()
        targets[-1] = 1
        rows.append({"ids": torch.randint(0, VOCAB, (length,)).tolist(), "targets": targets.tolist()})
    return rows


def micro_batch(rows: list) -> tuple:
    ids = torch.full((len(rows), BLOCK), 2)
    labels = torch.full((len(rows), BLOCK), -100)
    for i, row in enumerate(rows):
        n = len(row["ids"])
        ids[i, :n] = torch.tensor(row["ids"])
        labels[i, :n] = torch.where(torch.tensor(row["targets"]) == 1, ids[i, :n], -100)
    return ids, labels[:, 1:]


def steps_of(rows: list):
    size, accumulation = OPTIONS["micro_batch_size"], OPTIONS["gradient_accumulation_steps"]
    batches = [micro_batch(rows[i:i + size]) for i in range(0, len(rows), size)]
    while True:
        for i in range(0, len(batches), accumulation):
            yield batches[i:i + accumulation]


def groups_of(model) -> list:
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm],
                                      [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]))
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [{"params": [p for n, p in trained if n in decayed], "weight_decay": OPTIONS["weight_decay"]},
            {"params": [p for n, p in trained if n not in decayed], "weight_decay": 0.0}]


def train(base: Path, adapter: Path, rows: list, reduction: str) -> tuple:
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), adapter, is_trainable=True).train()
    optimizer = torch.optim.AdamW(groups_of(model), lr=OPTIONS["learning_rate"])
    total = OPTIONS["max_steps"]
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(total * OPTIONS["warmup_ratio"]), total)
    trained = [p for p in model.parameters() if p.requires_grad]
    log = []
    for step, batches in zip(range(total), steps_of(rows)):
        tokens = sum(int((labels >= 0).sum()) for _, labels in batches)
        loss_of_step = 0.0
        for ids, labels in batches:
            logits = model(input_ids=ids).logits[:, :-1].float()
            total_loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            n = tokens if reduction == "token" else int((labels >= 0).sum()) * len(batches)
            (total_loss / n).backward()
            loss_of_step += float(total_loss) / n
        norm = float(torch.nn.utils.clip_grad_norm_(trained, OPTIONS["max_grad_norm"]))
        log.append({"loss": loss_of_step, "grad_norm": norm, "learning_rate": schedule.get_last_lr()[0],
                    "supervised_tokens": tokens})
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return log, {k: v.detach().clone().contiguous() for k, v in get_peft_model_state_dict(model).items()}


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "tests/reference/train"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    make_base(out / "base")
    make_adapter(out / "base", out / "adapter")
    rows = make_rows()
    result = {"versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)}, "options": OPTIONS}
    for reduction in ("token", "micro_batch_mean"):
        result[reduction], adapter = train(out / "base", out / "adapter", rows, reduction)
        save_file(adapter, out / f"{reduction}.safetensors", metadata={"format": "pt"})
    result["rows"] = rows
    lines = json.dumps(result).replace('{"ids"', '\n{"ids"').replace('{"loss"', '\n{"loss"')
    (out / "steps.json").write_text(lines + "\n")
    for extra in ("adapter/README.md", "base/generation_config.json"):
        (out / extra).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
