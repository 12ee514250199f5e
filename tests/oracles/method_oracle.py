"""Training methods end to end, judged by PEFT and transformers, all in fp32.

  usage: method_oracle.py LLAMA2ZH SOURCE_DIR

  - DoRA with ranks by pattern, dropout, LoRA+, NEFTune, label smoothing and only the last rows trained: PEFT loads the adapter, and its
    logits are those of the folder merged here; the first rows are the base's;
  - the same continued by a second run from that adapter, and from a DoRA adapter of PEFT's making, which is merged here as PEFT merges it;
  - embeddings alone (no target modules): PEFT loads the adapter;
  - 8-bit moments: the loss curve stays with that of float32 moments;
  - YaRN in full training, dynamic NTK in LoRA: the result's config.json makes transformers compute the same loss over more positions than
    the base has, and generate the same greedy ids across the border.
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
POSITIONS = 32


class Method(Program):
    def make_base(self):
        turns = self.write_turns()
        (self.folder / "long.txt").write_text("".join(turns)[:160], encoding="utf-8")
        self.make_model("base", POSITIONS)

    def sft(self, output, *args, steps=5, rate="1e-2"):
        rank = [] if "full" in args else ["--lora.rank", 4]
        self.run("sft", "--model.path", "base", *rank, "--data.train_files", self.rows, "--data.block_size", 64,
                 "--train.max_steps", steps, "--train.learning_rate", rate, "--output_dir", output, *args)

    def merge(self, adapter, output):
        self.run("merge", "--base", "base", "--adapter", adapter, "--output", output)
        return self.hf(output)

    def hf(self, name):
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder / name, dtype=torch.float32).eval()

    def with_adapter(self, name):
        return peft.PeftModel.from_pretrained(self.hf("base"), self.folder / name).eval()

    def losses(self, name):
        return [json.loads(line)["loss"] for line in (self.folder / name / "trainer_log.jsonl").read_text().splitlines()
                if "eval_loss" not in line]


def check(name, condition, detail=""):
    print(("ok    " if condition else "WRONG ") + name + (f": {detail}" if detail else ""))
    if not condition:
        sys.exit(1)


def check_close(name, got, want):
    difference = (got - want).abs().max().item()
    check(name, difference <= TOLERANCE, f"largest difference {difference:.2e}")


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids])).logits[0]


def check_dora(program, ids):
    first = 700
    program.sft("dora", "--lora.use_dora", "true", "--lora.rank_pattern", "down_proj=6", "--lora.dropout", 0.1, "--train.loraplus_lr_ratio", 4,
                "--train.neftune_noise_alpha", 5, "--train.label_smoothing_factor", 0.1, "--train.first_trained_row", first)
    model, merged = program.with_adapter("dora"), program.merge("dora", "dora_merged")
    check_close("PEFT reads our DoRA adapter", logits(model, ids), logits(merged, ids))
    base = program.hf("base")
    for name in ["model.embed_tokens.weight", "lm_head.weight"]:
        old, new = base.state_dict()[name], merged.state_dict()[name]
        check(f"{name}: only the rows from {first} on moved", torch.equal(old[:first], new[:first]) and not torch.equal(old[first:], new[first:]))
    program.sft("dora_on", "--model.peft_path", "dora", "--train.seed", 3)
    check_close("continued", logits(program.with_adapter("dora_on"), ids), logits(program.merge("dora_on", "dora_on_merged"), ids))


def check_theirs(program, ids):
    torch.manual_seed(3)
    config = peft.LoraConfig(r=3, lora_alpha=7, use_dora=True, target_modules=PROJECTIONS, task_type="CAUSAL_LM", rank_pattern={"up_proj": 5})
    model = peft.get_peft_model(program.hf("base"), config)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.requires_grad):
            weight.mul_(1 + torch.randn_like(weight) * 0.1).add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(program.folder / "theirs")
    want = logits(model.eval(), ids)
    check_close("PEFT's DoRA adapter merged here", logits(program.merge("theirs", "theirs_merged"), ids), want)
    program.sft("theirs_on", "--model.peft_path", "theirs", rate=0)
    check_close("PEFT's, read and written by a run that learns nothing", logits(program.with_adapter("theirs_on"), ids), want)


def check_embeddings(program, ids):
    program.sft("rows", "--lora.target_modules", "", "--train.first_trained_row", 700)
    check_close("embeddings alone", logits(program.with_adapter("rows"), ids), logits(program.merge("rows", "rows_merged"), ids))


def check_8bit(program):
    program.sft("fp32", steps=40, rate="2e-3")
    program.sft("int8", "--train.optim", "adamw_8bit", steps=40, rate="2e-3")
    exact, small = program.losses("fp32"), program.losses("int8")
    apart = max(abs(a - b) for a, b in zip(exact, small))
    check("8-bit moments", exact[-1] < exact[0] - 1 and apart < 0.05 * exact[0] and exact != small,
          f"losses {exact[0]:.3f} -> {exact[-1]:.3f} and {small[-1]:.3f}, at most {apart:.3f} apart")


def check_rope(program, name, *args):
    if "full" in args:
        program.sft(name, *args)
        model = program.hf(name)
    else:
        program.sft(name + "_adapter", *args)
        model = program.merge(name + "_adapter", name)
    text = (program.folder / "long.txt").read_text(encoding="utf-8")
    ids = [1] + json.loads(program.run("tokenize", "--model", "base", "--text", text, "--json"))["ids"]
    check(f"{name}: transformers reads the scaling", model.config.rope_parameters["rope_type"] == name and len(ids) > POSITIONS,
          json.dumps(model.config.rope_parameters))
    result = json.loads(program.run("evaluate", "perplexity", "--model", name, "--file", "long.txt", "--dtype", "float32", "--json"))
    with torch.no_grad():
        # The last token is a target only: under dynamic scaling the number of tokens that are fed counts.
        loss = torch.nn.functional.cross_entropy(logits(model, ids[:-1]), torch.tensor(ids[1:])).item()
    check(f"{name}: loss", abs(loss - result["nll_per_token"]) < 1e-4, f"{loss:.6f} and {result['nll_per_token']:.6f}")
    answer = json.loads(program.run("generate", "--model", name, "--prompt", "你是谁", "--raw", "--temperature", 0, "--max-new-tokens", 40,
                                    "--ignore-eos", "--dtype", "float32", "--json"))
    prompt = json.loads(program.run("tokenize", "--model", "base", "--text", "你是谁", "--add-bos", "--json"))["ids"]
    want = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=40, eos_token_id=None, pad_token_id=0)[0, len(prompt):].tolist()
    check(f"{name}: greedy ids over the border", answer["ids"] == want, f"{len(want)} ids")


def main():
    binary, source = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        program = Method(binary, source, pathlib.Path(folder))
        program.make_base()
        ids = [1] + json.loads(program.run("tokenize", "--model", "base", "--text", "怎样列出目录里的文件？", "--json"))["ids"]
        check_dora(program, ids)
        check_theirs(program, ids)
        check_embeddings(program, ids)
        check_8bit(program)
        check_rope(program, "yarn", "--method", "full", "--model.rope_scaling.rope_type", "yarn", "--model.rope_scaling.factor", 4)
        check_rope(program, "dynamic", "--model.rope_scaling.rope_type", "dynamic", "--model.rope_scaling.factor", 4)


main()
