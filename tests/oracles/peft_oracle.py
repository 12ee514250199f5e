"""What transformers and PEFT say about an adapter folder: the reference that llama2zh is compared with.

  peft_oracle.py make DIR        writes DIR/base (a tiny random LlamaForCausalLM), DIR/adapter and
                                 DIR/adapter_bin (one PEFT adapter, as .safetensors and as .bin; q/k/v/o and
                                 MLP projections, random B, modules_to_save embed_tokens + lm_head, a
                                 rank_pattern and an alpha_pattern), DIR/adapter_plain (LoRA only) and
                                 DIR/logits.json
  peft_oracle.py logits BASE ADAPTER [ID ...]
                                 loads an adapter folder, ours or PEFT's, on BASE and prints its logits as JSON;
                                 fails if PEFT reports missing or unexpected tensors

JSON: {"ids": [...], "base": [[...]], "adapter": [[...]], "adapter_plain": [[...]], "versions": {...}}; logits are
one row a position, fp32. Needs torch, transformers, peft, safetensors.
"""

import argparse
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers

IDS = [1, 5, 17, 33, 40, 2, 7, 11]
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tiny_base(folder):
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)


def load_base(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0].float().tolist()


def randomise(model):
    """Gives every trainable tensor values that change the logits."""
    torch.manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
            elif "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def make_adapter(base, folders, **options):
    config = peft.LoraConfig(
        r=4, lora_alpha=16, lora_dropout=0.1, task_type="CAUSAL_LM", target_modules=PROJECTIONS, **options
    )
    model = peft.get_peft_model(load_base(base), config).eval()
    randomise(model)
    for folder, safe in folders:
        model.save_pretrained(folder, safe_serialization=safe)
    return logits_of(model, IDS)


def make(folder):
    base = os.path.join(folder, "base")
    tiny_base(base)
    where = lambda name: os.path.join(folder, name)
    result = {"ids": IDS, "base": logits_of(load_base(base), IDS)}
    result["adapter"] = make_adapter(
        base,
        [(where("adapter"), True), (where("adapter_bin"), False)],
        modules_to_save=["embed_tokens", "lm_head"],
        rank_pattern={"up_proj": 6, r"layers\.1\..*q_proj": 2},
        alpha_pattern={"layers.0.self_attn.q_proj": 8},
        use_rslora=True,
    )
    result["adapter_plain"] = make_adapter(base, [(where("adapter_plain"), True)])
    result["versions"] = {m.__name__: m.__version__ for m in (torch, transformers, peft)}
    with open(where("logits.json"), "w") as file:
        json.dump(result, file)


def logits(base, adapter, ids):
    model = peft.PeftModel.from_pretrained(load_base(base), adapter).eval()
    report = peft.set_peft_model_state_dict(model, peft.load_peft_weights(adapter))
    missing = [key for key in report.missing_keys if "lora_" in key or "modules_to_save" in key]
    if missing or report.unexpected_keys:
        sys.exit(f"{adapter}: missing {missing}, unexpected {report.unexpected_keys}")
    json.dump({"ids": ids, "adapter": logits_of(model, ids)}, sys.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("make")
    sub.add_argument("folder")
    sub = commands.add_parser("logits")
    sub.add_argument("base")
    sub.add_argument("adapter")
    sub.add_argument("ids", nargs="*", type=int)
    args = parser.parse_args()
    if args.command == "make":
        make(args.folder)
    else:
        logits(args.base, args.adapter, args.ids or IDS)


if __name__ == "__main__":
    main()
