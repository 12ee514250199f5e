"""The event files of a run that was resumed, read back with the tensorboard package.
usage: tensorboard_oracle.py LLAMA2ZH"""
import json, math, pathlib, shutil, subprocess, sys, tempfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

program = sys.argv[1]
folder = pathlib.Path(tempfile.mkdtemp())


def run(*arguments):
    subprocess.run([program, *map(str, arguments)], check=True, cwd=folder, stdout=subprocess.DEVNULL)


def train(*arguments):
    run("pretrain", "--model.path", "base", "--output_dir", "out", "--data.train_files", "text.jsonl", "--data.validation_split", "0.1",
        "--data.block_size", "32", "--train.max_steps", "6", "--train.eval_steps", "2", "--train.save_steps", "2", "--train.warmup_steps", "2",
        "--train.peak_tflops", "0.1", *arguments)


def scalars(tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


try:
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": f"the quick brown fox {i} jumps over {i * i} lazy dogs 你好世界"}) + "\n" for i in range(200)))
    run("train-tokenizer", "--input", "text.jsonl", "--vocab-size", "320", "--output", "tokenizer.model")
    run("init-model", "--tokenizer", "tokenizer.model", "--hidden-size", "32", "--intermediate-size", "64", "--num-hidden-layers", "2",
        "--output", "base")
    train()
    for step in (4, 6):
        shutil.rmtree(folder / f"out/checkpoint-{step}")
    train("--resume", "--train.learning_rate", "2e-4", "--allow_changed", "train.learning_rate")

    (runs,) = (folder / "out/runs").iterdir()
    assert len(list(runs.iterdir())) == 2, list(runs.iterdir())
    events = EventAccumulator(str(runs)).Reload()
    log = [json.loads(line) for line in (folder / "out/trainer_log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "loss" in line]
    evaluations = [line for line in log if "eval_loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    for tag, key in {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "epoch": "epoch", "mfu": "mfu"}.items():
        read = scalars(f"train/{tag}")
        assert [step for step, _ in read] == [1, 2, 3, 4, 5, 6], (tag, read)
        for (step, value), line in zip(read, steps):
            assert math.isclose(value, line[key], rel_tol=1e-6, abs_tol=1e-4 if key == "mfu" else 0), (tag, step, value, line[key])
    read = scalars("eval/loss")
    assert [step for step, _ in read] == [2, 4, 6], read
    for (step, value), line in zip(read, evaluations):
        assert math.isclose(value, line["eval_loss"], rel_tol=1e-6), (step, value, line)
    assert scalars("train/learning_rate")[2][1] > 1.5e-4, "points of the first session are not void"
finally:
    shutil.rmtree(folder)
