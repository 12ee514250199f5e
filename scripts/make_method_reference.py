#!/usr/bin/env python3
"""Writes tests/reference/method: training methods and rotary scalings as peft and transformers compute them.

  usage: make_method_reference.py [OUTPUT_FOLDER]     (in the environment that scripts/oracles.sh makes)

  dora/adapter/         a DoRA adapter with ranks and alphas by pattern, embed_tokens and lm_head, saved by peft, on
                        tests/reference/train/base
  dora/start.safetensors    its logits, and the projections after peft's merge_and_unload
  dora/steps.json       options, and every step's loss, gradient norm and learning rate of ten optimizer steps with
                        LoRA+, an own learning rate for embeddings and head, label smoothing and get_wsd_schedule
  dora/end.safetensors  the adapter after them
  wsd.json              get_wsd_schedule for several shapes
  rope.json             configs with rotary scalings, cos and sin at some positions, and a tiny model's logits
"""
import json
import shutil
import sys
from pathlib import Path

import make_training_reference as base_run
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, get_wsd_schedule
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.trainer_pt_utils import LabelSmoother

HERE = Path(__file__).resolve().parent.parent
BASE = HERE / "tests/reference/train/base"
OPTIONS = dict(micro_batch_size=2, gradient_accumulation_steps=2, max_steps=10, learning_rate=2e-3, weight_decay=0.1,
               max_grad_norm=0.5, loraplus_lr_ratio=4.0, embedding_learning_rate=5e-4, label_smoothing_factor=0.1,
               warmup_steps=2, num_decay_steps=4, min_lr_ratio=0.1, decay_type="1-sqrt", block_size=base_run.BLOCK)
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = [1, 5, 17, 33, 40, 2, 7, 11, 30, 31, 32, 4]


def load_base():
    return LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)


def make_adapter(folder: Path) -> None:
    torch.manual_seed(2)
    config = LoraConfig(r=4, lora_alpha=6, lora_dropout=0.0, task_type="CAUSAL_LM", target_modules=PROJECTIONS,
                        modules_to_save=["embed_tokens", "lm_head"], use_dora=True,
                        rank_pattern={"down_proj": 6, r"layers\.1\.self_attn\.q_proj": 2}, alpha_pattern={"v_proj": 9})
    model = get_peft_model(load_base(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
            elif "magnitude" in name:
                parameter.mul_(0.7 + 0.6 * torch.rand_like(parameter))
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(folder)
    for extra in ("README.md",):
        (folder / extra).unlink(missing_ok=True)


def start(adapter: Path) -> dict:
    model = PeftModel.from_pretrained(load_base(), adapter).eval()
    with torch.no_grad():
        tensors = {"logits": model(torch.tensor([IDS])).logits[0].contiguous(), "ids": torch.tensor(IDS)}
        merged = model.merge_and_unload()
    tensors.update({"merged." + n: p.detach().clone() for n, p in merged.named_parameters() if "_proj" in n})
    return tensors


def optimizer_of(model):
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=OPTIONS["learning_rate"],
                                          loraplus_lr_ratio=OPTIONS["loraplus_lr_ratio"],
                                          loraplus_weight_decay=OPTIONS["weight_decay"])
    embeddings = [p for n, p in model.named_parameters() if p.requires_grad and "modules_to_save" in n]
    ids = {id(p) for p in embeddings}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in ids]
    optimizer.param_groups = [g for g in optimizer.param_groups if g["params"]]
    optimizer.add_param_group({"params": embeddings, "lr": OPTIONS["embedding_learning_rate"],
                               "weight_decay": OPTIONS["weight_decay"]})
    return optimizer


def batches_of(rows: list):
    size, accumulation = OPTIONS["micro_batch_size"], OPTIONS["gradient_accumulation_steps"]
    batches = [base_run.micro_batch(rows[i:i + size]) for i in range(0, len(rows), size)]
    while True:
        for i in range(0, len(batches), accumulation):
            yield batches[i:i + accumulation]


def train(adapter: Path, rows: list) -> tuple:
    model = PeftModel.from_pretrained(load_base(), adapter, is_trainable=True).train()
    optimizer = optimizer_of(model)
    schedule = get_wsd_schedule(optimizer, OPTIONS["warmup_steps"], OPTIONS["num_decay_steps"], OPTIONS["max_steps"],
                                decay_type=OPTIONS["decay_type"], min_lr_ratio=OPTIONS["min_lr_ratio"])
    smoother = LabelSmoother(epsilon=OPTIONS["label_smoothing_factor"])
    trained = [p for p in model.parameters() if p.requires_grad]
    log = []
    for _, batches in zip(range(OPTIONS["max_steps"]), batches_of(rows)):
        tokens = torch.tensor(sum(int((labels >= 0).sum()) for _, labels in batches))
        loss_of_step = 0.0
        for ids, labels in batches:
            logits = model(input_ids=ids).logits[:, :-1].float()
            loss = smoother({"logits": logits}, labels, num_items_in_batch=tokens)
            loss.backward()
            loss_of_step += float(loss)
        norm = float(torch.nn.utils.clip_grad_norm_(trained, OPTIONS["max_grad_norm"]))
        rates = schedule.get_last_lr()
        log.append({"loss": loss_of_step, "grad_norm": norm, "learning_rate": rates[0],
                    "supervised_tokens": int(tokens)})
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return log, {k: v.detach().clone().contiguous() for k, v in get_peft_model_state_dict(model).items()}


def wsd_rates() -> list:
    cases = []
    for total, warmup, decay, low, warmup_type, decay_type in [(20, 4, 6, 0.0, "linear", "cosine"),
                                                               (20, 4, 6, 0.2, "cosine", "linear"),
                                                               (15, 5, 5, 0.1, "1-sqrt", "1-sqrt"),
                                                               (8, 0, 3, 0.0, "linear", "1-sqrt")]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = get_wsd_schedule(optimizer, warmup, decay, total, min_lr_ratio=low, warmup_type=warmup_type,
                                    decay_type=decay_type)
        rates = []
        for _ in range(total + 2):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        cases.append({"max_steps": total, "warmup_steps": warmup, "num_decay_steps": decay, "min_lr_ratio": low,
                      "warmup_type": warmup_type, "decay_type": decay_type, "rates": rates})
    return cases


ROPES = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "yarn_all_keys": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 16.0,
                      "beta_slow": 2.0, "attention_factor": 1.25, "truncate": False},
    "yarn_mscale": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "mscale": 0.8,
                    "mscale_all_dim": 0.5},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32},
}


def rope_case(name: str, rope: dict) -> dict:
    limit = 32 if name == "dynamic" else 128
    config = LlamaConfig(vocab_size=48, hidden_size=64, intermediate_size=24, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=limit,
                         rope_parameters={"rope_theta": 500.0, **rope})
    positions = [0, 1, 2, 15, 31, 47, 100]
    case = {"name": name, "config": config.to_dict(), "positions": positions}
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.tensor([positions]))
    case["cos"], case["sin"] = cos[0].tolist(), sin[0].tolist()
    return case


def rope_logits(name: str, rope: dict) -> list:
    config = LlamaConfig.from_pretrained(BASE)
    config.rope_parameters = {"rope_theta": 10000.0, **rope}
    model = LlamaForCausalLM.from_pretrained(BASE, config=config, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([(IDS * 5)[:48]])).logits[0, ::8].tolist()


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "tests/reference/method"
    shutil.rmtree(out, ignore_errors=True)
    (out / "dora").mkdir(parents=True)
    versions = {m.__name__: m.__version__ for m in (torch, transformers, peft)}
    make_adapter(out / "dora/adapter")
    save_file(start(out / "dora/adapter"), out / "dora/start.safetensors")
    log, end = train(out / "dora/adapter", base_run.make_rows())
    save_file(end, out / "dora/end.safetensors")
    (out / "dora/steps.json").write_text(json.dumps({"versions": versions, "options": OPTIONS, "steps": log}) + "\n")
    (out / "wsd.json").write_text(json.dumps({"versions": versions, "cases": wsd_rates()}) + "\n")
    cases = [rope_case(*item) for item in ROPES.items()]
    logits = {name: rope_logits(name, rope) for name, rope in ROPES.items()}
    result = {"versions": versions, "ids": (IDS * 5)[:48], "rows": list(range(0, 48, 8)), "logits": logits,
              "cases": cases}
    (out / "rope.json").write_text(json.dumps(result).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
