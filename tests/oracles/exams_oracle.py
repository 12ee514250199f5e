"""`evaluate ceval` and `evaluate cmmlu` beside lm-evaluation-harness on the same questions and models, in fp32.

  usage: exams_oracle.py LLAMA2ZH SHARED

LLAMA2ZH_EXAM_LIMIT=N asks N questions of each subject that SHARED has, 0 all of them, instead of four of each of four; the official
prompts then on all models.

The harness's own tasks (ceval-valid_*, cmmlu_*), with their data read from the published CSV files instead of the hub, and its own HFLM
through transformers. For every question the log-likelihoods of " A" to " D" agree within 1e-3, and the choice is the same unless two of
them are that close; on
  - a random model with the LLaMA-2 tokenizer and a context that holds five shots,
  - the same with one that does not: the beginning goes,
  - stories260K, whose tokenizer writes " A" in two pieces.
Beside it the official prompts' choices, recomputed here from CMMLU's and C-Eval's own rule: the logits of "A" behind the prompt.
"""

import csv
import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import datasets
import torch
import transformers
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from oracle_program import run_program

TASKS = pathlib.Path(sys.modules[TaskManager.__module__].__file__).parent
CEVAL, CMMLU = ("ceval", ["logic", "computer_network"]), ("cmmlu", ["nutrition", "chinese_history"])
LIMIT = int(os.environ.get("LLAMA2ZH_EXAM_LIMIT", 4))
IN_FULL = "LLAMA2ZH_EXAM_LIMIT" in os.environ
TOLERANCE = 1e-3


def read_rows(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def csv_files(data, suite, subject):
    """(shots, questions)"""
    if suite == "ceval":
        return data / suite / f"dev/{subject}_dev.csv", data / suite / f"val/{subject}_val.csv"
    return data / suite / f"dev/{subject}.csv", data / suite / f"test/{subject}.csv"


def harness_task(data, suite, subject):
    """The harness's task, its dataset replaced by the files (as texts, which the hub's are too)."""
    name = f"ceval-valid_{subject}" if suite == "ceval" else f"cmmlu_{subject}"
    config = load_yaml(TASKS / suite / f"{name}.yaml")
    config.pop("include", None)
    shots, questions = csv_files(data, suite, subject)
    columns = list(read_rows(shots)[0])
    wanted = [column for column in columns if column in read_rows(questions)[0]]
    folder = pathlib.Path(tempfile.mkdtemp())
    files = {}
    for split, path in [("dev", shots), ("val" if suite == "ceval" else "test", questions)]:
        files[split] = str(folder / f"{split}.json")
        rows = [{column or "id": row[column] for column in wanted} for row in read_rows(path)]
        pathlib.Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    features = datasets.Features({column or "id": datasets.Value("string") for column in wanted})
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files, "features": features}}
    return ConfigurableTask(config=config)


def harness_answers(model, tokenizer, data, suite, subject, shots):
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    task = harness_task(data, suite, subject)
    result = simple_evaluate(model=lm, tasks=[task], num_fewshot=shots, limit=LIMIT or None, log_samples=True, bootstrap_iters=0)
    (samples,) = result["samples"].values()
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    return [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples]


class Oracle:
    def __init__(self, program, shared, folder):
        self.program, self.data, self.folder = program, shared / "data/eval", folder
        self.failures = self.questions = self.different = 0
        self.worst = 0.0

    def run(self, *args):
        return run_program(self.program, *args, folder=self.folder)

    def evaluate(self, suite, subject, model, *flags):
        self.run("evaluate", suite, "--model", model, "--data", self.data / suite, "--subjects", subject, "--limit", LIMIT, "--dtype",
                 "float32", "--output", "out", "--overwrite", *flags)
        rows = (self.folder / "out/predictions.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(row) for row in rows], json.loads((self.folder / "out/results.json").read_text(encoding="utf-8"))

    def compare(self, what, got, expected):
        """Rows of predictions.jsonl with what the letters should score."""
        worst = max(abs(a - b) for row, scores in zip(got, expected, strict=True) for a, b in zip(row["logprobs"], scores, strict=True))
        wrong = 0
        for row, scores in zip(got, expected, strict=True):
            first, second = sorted(scores, reverse=True)[:2]
            wrong += row["prediction"] != "ABCD"[scores.index(first)] and first - second > TOLERANCE
        print(f"{what}: {len(got)} questions, {wrong} answered differently, log-likelihoods differ by {worst:.1e}")
        self.failures += wrong + int(worst > TOLERANCE)
        self.questions, self.different, self.worst = self.questions + len(got), self.different + wrong, max(self.worst, worst)

    def subjects_of(self, suite):
        """Those with shots and questions."""
        names = sorted(path.stem.removesuffix("_dev") for path in (self.data / suite / "dev").glob("*.csv"))
        return [name for name in names if csv_files(self.data, suite, name)[1].exists()]

    def check_harness(self, name, model, tokenizer):
        for suite, subjects in [CEVAL, CMMLU]:
            for subject in self.subjects_of(suite) if IN_FULL else subjects:
                for shots in [0, 5]:
                    got, result = self.evaluate(suite, subject, name, "--prompt", "harness", "--shots", shots)
                    expected = harness_answers(model, tokenizer, self.data, suite, subject, shots)
                    cached = f"{result['cached_share']:.0%} cached, {result['cut_prompts']} cut"
                    self.compare(f"{name} {suite} {subject} {shots} shots ({cached})", got, expected)

    def check_official(self, name, model, tokenizer):
        """The choice by the next token's logits: CMMLU's bare pieces, C-Eval's first pieces of the texts."""
        for suite, subject in [("ceval", "logic"), ("cmmlu", "nutrition")]:
            shots_file, questions_file = csv_files(self.data, suite, subject)
            got, _ = self.evaluate(suite, subject, name, "--shots", 2)
            if suite == "ceval":
                ids = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "ABCD"]
            else:
                ids = tokenizer.convert_tokens_to_ids(list("ABCD"))
            expected = []
            for row in read_rows(questions_file)[:LIMIT or None]:
                prompt = official_prompt(suite, read_rows(shots_file)[:2], row)
                with torch.no_grad():
                    logits = model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1]
                expected.append(torch.log_softmax(logits, -1)[ids].tolist())
            self.compare(f"{name} {suite} {subject} official", got, expected)


def official_prompt(suite, shots, question):
    """As C-Eval's llama.py and CMMLU's mp_utils.py make it."""
    def form(row, answer):
        if suite == "ceval":
            example = row["question"] + "".join(f"\n{choice}. {row[choice]}" for choice in "ABCD") + "\n答案："
            return example + (row["answer"] + "\n\n" if answer else "")
        example = "题目：" + row["Question"] + "".join(f"\n{choice}. {row[choice]}" for choice in "ABCD") + "\n答案是："
        return example + (row["Answer"] + "\n\n" if answer else "")
    header = ("以下是中国关于逻辑学考试的单项选择题，请选出其中的正确答案。\n\n" if suite == "ceval"
              else "以下是关于营养学的单项选择题，请直接给出正确答案的选项。\n\n")
    return header + "".join(form(row, True) for row in shots) + form(question, False)


def main():
    program, shared = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    if not (shared / "data/eval/ceval").is_dir():
        print("skipped: the questions are not in", shared / "data/eval")
        sys.exit(77)
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(program, shared, pathlib.Path(folder))
        for name, positions in [("random", 4096), ("short", 300)]:
            oracle.run("init-model", "--tokenizer", shared / "data/tokenizers/llama2_tokenizer.model", "--hidden-size", 32,
                       "--intermediate-size", 64, "--num-hidden-layers", 2, "--num-attention-heads", 4, "--num-key-value-heads", 2,
                       "--max-position-embeddings", positions, "--initializer-range", 0.2, "--output", name)
        stories = oracle.folder / "stories"
        stories.mkdir()
        for path in (shared / "data/weights/stories260K_hf").iterdir():
            (stories / path.name).write_bytes(path.read_bytes())
        (stories / "tokenizer.model").write_bytes((shared / "data/tokenizers/tok512_from_bin.model").read_bytes())
        (stories / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True,
                                                                   "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))
        for name in ["random", "short", "stories"]:
            model = transformers.LlamaForCausalLM.from_pretrained(oracle.folder / name, dtype=torch.float32).eval()
            tokenizer = transformers.AutoTokenizer.from_pretrained(oracle.folder / name)
            oracle.check_harness(name, model, tokenizer)
            if name == "random" or (IN_FULL and name == "stories"):
                oracle.check_official(name, model, tokenizer)
    print(f"{oracle.questions} answers, {oracle.different} different, log-likelihoods within {oracle.worst:.1e}")
    sys.exit(1 if oracle.failures else 0)


if __name__ == "__main__":
    main()
