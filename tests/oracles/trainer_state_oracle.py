"""trainer_state.json read by transformers, and early stopping replayed with its own callback.

  usage: trainer_state_oracle.py LLAMA2ZH SOURCE_DIR

Trains a tiny model, far too fast for its validation rows, then checks:
  - TrainerState.load_from_json() takes the files of the checkpoints and of the finished run, with their values;
  - log_history has what plotting tools look for, one entry a logged step and one an evaluation;
  - transformers' EarlyStoppingCallback and its rule for the best model, fed with our evaluation losses, stop at the same step and
    name the same checkpoint, which rotation has kept.
"""

import json
import os
import pathlib
import sys
import tempfile
import types

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from oracle_program import Program
from transformers.trainer_callback import EarlyStoppingCallback, TrainerControl, TrainerState

PATIENCE, THRESHOLD = 3, 0.001


def train(program, source, folder):
    llama2zh = Program(program, source, folder)
    turns = llama2zh.write_turns()
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in turns[:12]), encoding="utf-8")
    (folder / "held.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in turns[12:24]), encoding="utf-8")
    llama2zh.run("train-tokenizer", "--input", "zh.txt", "--vocab-size", 1500, "--output", "zh.model")
    llama2zh.run("init-model", "--tokenizer", "zh.model", "--hidden-size", 32, "--intermediate-size", 64, "--num-hidden-layers", 2,
        "--num-attention-heads", 4, "--num-key-value-heads", 2, "--max-position-embeddings", 128, "--output", "base")
    llama2zh.run("pretrain", "--model.path", "base", "--method", "full", "--data.train_files", "train.jsonl",
        "--data.validation_files", "held.jsonl", "--data.block_size", 64, "--train.max_steps", 200, "--train.learning_rate", "2e-2",
        "--train.eval_steps", 4, "--train.save_steps", 4, "--train.save_total_limit", 2, "--train.load_best_model_at_end", "true",
        "--train.early_stopping_patience", PATIENCE, "--train.early_stopping_threshold", THRESHOLD, "--output_dir", "out")


def replay(evaluations):
    """The step at which transformers would stop, and the one whose model is the best."""
    callback = EarlyStoppingCallback(PATIENCE, THRESHOLD)
    args = types.SimpleNamespace(metric_for_best_model="eval_loss", greater_is_better=False)
    state, control, best_step = TrainerState(), TrainerControl(), None
    for entry in evaluations:
        callback.on_evaluate(args, state, control, {"eval_loss": entry["eval_loss"]})
        if state.best_metric is None or entry["eval_loss"] < state.best_metric:
            state.best_metric, best_step = entry["eval_loss"], entry["step"]
        if control.should_training_stop:
            return entry["step"], best_step, state.best_metric
    return None, best_step, state.best_metric


def main():
    program, source = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        train(program, source, folder)
        state = TrainerState.load_from_json(folder / "out/trainer_state.json")
        steps = [entry for entry in state.log_history if "loss" in entry]
        evaluations = [entry for entry in state.log_history if "eval_loss" in entry]
        assert [entry["step"] for entry in steps] == list(range(1, state.global_step + 1)), steps
        assert all({"epoch", "grad_norm", "learning_rate", "loss", "step"} <= entry.keys() for entry in steps)
        assert all({"eval_runtime", "eval_samples_per_second", "epoch"} <= entry.keys() for entry in evaluations)
        stopped, best_step, best = replay(evaluations)
        assert stopped == state.global_step, (stopped, state.global_step)
        assert state.global_step < state.max_steps == 200
        assert (state.best_global_step, state.best_metric) == (best_step, best), (state.best_global_step, best_step)
        assert best_step < stopped, "the run should have gone past its best"
        assert state.best_model_checkpoint.endswith(f"checkpoint-{best_step}"), state.best_model_checkpoint
        kept = sorted(int(path.name.split("-")[1]) for path in (folder / "out").glob("checkpoint-*"))
        assert kept == [best_step, stopped], kept
        for step in kept:
            of_checkpoint = TrainerState.load_from_json(folder / f"out/checkpoint-{step}/trainer_state.json")
            assert of_checkpoint.global_step == step and of_checkpoint.log_history[-1]["step"] == step
        counter = state.stateful_callbacks["EarlyStoppingCallback"]["attributes"]["early_stopping_patience_counter"]
        assert counter == PATIENCE, counter
        print(f"stopped at step {stopped}, best at {best_step}: as transformers' callback")


if __name__ == "__main__":
    main()
