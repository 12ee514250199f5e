"""The files of a whole run, read by transformers and PEFT, and PEFT's read here.

  usage: chain_oracle.py LLAMA2ZH SOURCE_DIR

Trains a tiny tokenizer, model and adapter with the program given, then checks, all in fp32:
  - PEFT loads our adapter on our base; its logits equal those of our merged folder in transformers;
  - an adapter that PEFT wrote (.safetensors and .bin) is merged here to the same logits;
  - greedy ids of `generate` equal transformers' on the merged folder, with and without the adapter unmerged;
  - AutoTokenizer reads the merged folder and encodes as `tokenize`; config.json holds both spellings;
  - nll of `evaluate perplexity` equals transformers' loss.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers

from oracle_program import Program

TOLERANCE = 1e-4
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Chain(Program):
    def build(self):
        turns = self.write_turns()
        (self.folder / "short.txt").write_text("".join(turns[:12]), encoding="utf-8")
        self.make_model("base")
        self.run("sft", "--model.path", "base", "--lora.rank", 4, "--data.train_files", self.source / "assets/sft_zh.jsonl",
                 "--data.block_size", 128, "--train.max_steps", 8, "--train.learning_rate", "1e-2", "--output_dir", "tuned")
        self.run("merge", "--base", "base", "--adapter", "tuned", "--output", "merged")

    def peft_adapter(self):
        """An adapter of PEFT's own making with random B, saved both ways."""
        torch.manual_seed(3)
        config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=PROJECTIONS, modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(self.base(), config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn_like(weight) * 0.05)
        model.save_pretrained(self.folder / "theirs")
        model.save_pretrained(self.folder / "theirs_bin", safe_serialization=False)
        return model.eval()

    def base(self):
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder / "base", dtype=torch.float32).eval()

    def hf(self, name):
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder / name, dtype=torch.float32).eval()


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids])).logits[0]


def check(name, condition, detail=""):
    print(("ok    " if condition else "WRONG ") + name + (f": {detail}" if detail else ""))
    if not condition:
        sys.exit(1)


def check_close(name, got, want):
    difference = (got - want).abs().max().item()
    check(name, difference <= TOLERANCE, f"largest difference {difference:.2e}")


def check_greedy(chain, name, model, args):
    answer = json.loads(chain.run("generate", *args, "--prompt", "你是谁", "--raw", "--temperature", 0, "--max-new-tokens", 24, "--ignore-eos",
                                  "--dtype", "float32", "--json"))
    prompt = json.loads(chain.run("tokenize", "--model", "base", "--text", "你是谁", "--add-bos", "--json"))["ids"]
    want = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24, eos_token_id=None, pad_token_id=0)[0, len(prompt):].tolist()
    check(name, answer["ids"] == want, f"{len(want)} ids")


def main():
    program, source = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as name:
        chain = Chain(program, source, pathlib.Path(name))
        chain.build()
        ids = [1] + json.loads(chain.run("tokenize", "--model", "merged", "--text", "怎样列出目录里的文件？", "--json"))["ids"]

        merged = chain.hf("merged")
        ours = peft.PeftModel.from_pretrained(chain.base(), chain.folder / "tuned").eval()
        check_close("PEFT reads our adapter", logits(ours, ids), logits(merged, ids))
        check("the adapter changes the base", (logits(merged, ids) - logits(chain.base(), ids)).abs().max().item() > 0.1)
        check_greedy(chain, "greedy ids of the merged folder", merged, ["--model", "merged"])
        check_greedy(chain, "greedy ids of base + adapter", merged, ["--model", "base", "--adapter", "tuned"])

        theirs = chain.peft_adapter()
        for form in ["theirs", "theirs_bin"]:
            chain.run("merge", "--base", "base", "--adapter", form, "--output", "merged_" + form)
            check_close(f"PEFT's adapter ({form}) merged here", logits(chain.hf("merged_" + form), ids), logits(theirs, ids))

        tokenizer = transformers.AutoTokenizer.from_pretrained(chain.folder / "merged")
        check("AutoTokenizer encodes as tokenize", tokenizer("怎样列出目录里的文件？")["input_ids"] == ids)
        config = json.loads((chain.folder / "merged/config.json").read_text())
        check("config.json in both spellings", config["rope_theta"] == config["rope_parameters"]["rope_theta"] and config["torch_dtype"] == config["dtype"])

        result = json.loads(chain.run("evaluate", "perplexity", "--model", "merged", "--file", "short.txt", "--dtype", "float32", "--json"))
        text = [1] + json.loads(chain.run("tokenize", "--model", "merged", "--text", (chain.folder / "short.txt").read_text(encoding="utf-8"), "--json"))["ids"]
        with torch.no_grad():
            loss = merged(torch.tensor([text]), labels=torch.tensor([text])).loss.item()
        check("nll per token as transformers' loss", abs(loss - result["nll_per_token"]) < 1e-4, f"{loss:.6f} and {result['nll_per_token']:.6f}")


main()
