"""Words against jieba, ROUGE against rouge-chinese, BLEU against NLTK and chrF against sacrebleu, over sentences of the shared data.
usage: scores_oracle.py LLAMA2ZH SHARED"""

import json
import logging
import pathlib
import random
import re
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")  # of jieba's and rouge-chinese's regular expressions
import jieba
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_chinese import Rouge
from sacrebleu.metrics import CHRF

from oracle_program import check_same, failures, run_program

SENTENCES = 9000
NEWS_WORDS = "深度学习框架 3000 n\n大模型 n\n注意力机制\n一碗水\n的时候 0\n黛玉葬花 5\n梯度 下降 7\n"
HARD = ["3.14%和2.5GB的C++程序,v1.0-beta.2", "他说:“好!”。。你呢？！", "……真的……吗", "a..b......c.......d", "AT&T公司的B超 T恤", "\r\n \t第一\u3000第二\xa0第三\r\n",
        "𠀀𠀁㐀㐁龦龥", "😀👨‍👩‍👧今天", "100.%5.5.5%", "ＡＢＣ１２３全角", "#标签#话题+1", "工信处女干事每月经过下属科室", "台灣正體字也要斷詞", "x" * 300, "的" * 50,
        "“你好。”他说。“再见！”", "结束了。 \n\n 。", "。\n\n。\n \n好", "？！…", "12", "-", "_.-%", "Hello, world! It's 5 o'clock.", "ñandú café 東京タワー 서울"]


def texts_of(path):
    """Every text of at least two characters in a file of any of the shared forms."""
    raw = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return raw.splitlines()
    try:
        rows = json.loads(raw)
    except json.JSONDecodeError:
        rows = [json.loads(line) for line in raw.split("\n") if line.strip()]
    found = []

    def walk(value):
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, (list, dict)):
            for inner in value.values() if isinstance(value, dict) else value:
                walk(inner)

    walk(rows)
    return found


def sentences(shared, chance):
    """An equal share of every file: whole texts and the sentences in them."""
    files = sorted(path for folder in ("pretrain", "sft") for path in (shared / "data" / folder).iterdir() if path.suffix in (".txt", ".json", ".jsonl"))
    picked = []
    for path in files:
        parts = []
        for text in texts_of(path):
            parts += [text] if len(text) < 400 and chance.random() < 0.2 else re.split(r"(?<=[。！？；\n])", text)
        parts = [part for part in parts if 2 <= len(part) <= 600 and part.strip()]
        picked += chance.sample(parts, min(len(parts), SENTENCES // len(files)))
    return picked


def changed(text, other, chance):
    """As a model might answer: the text, a part of it, with words moved or changed, or another one."""
    kind = chance.randrange(7)
    at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
    if kind == 0:
        return text[:at] + text[to:]
    if kind == 1:
        return text[:at] + other[: to - at] + text[to:]
    if kind == 2:
        return text[at:] + text[:at]
    if kind == 3:
        return text[:at] + text[at:to] * 2 + text[to:]
    if kind == 4:
        return chance.choice(["", "  ", "\n", text[:2], "?"])
    return text if kind == 5 else other


def write_lines(path, key, texts):
    path.write_text("".join(json.dumps({key: text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")


def compare_words(rows, pairs, cutter, what):
    """Prints and checks the share of jieba's words that are ours too, at the same place."""
    same = total = odd = 0
    for row, pair in zip(rows, pairs):
        for key, text in zip(("prediction_words", "reference_words"), pair):
            wanted, ours = list(cutter.cut(text)), row[key]
            check_same("".join(ours) == text, f"the words of {text!r} do not make it up: {ours}")
            places = [set(), set()]
            for words, ends in zip((wanted, ours), places):
                at = 0
                for word in words:
                    ends.add((at, at + len(word)))
                    at += len(word)
            same += len(places[0] & places[1])
            total += len(places[0])
            odd += wanted != ours
    print(f"{what}: {len(rows)} pairs of texts, {total} words, {same / total:.6%} equal, {odd} texts differ")
    check_same(same >= 0.99 * total, f"{what}: less than 99 % of words are equal")


def check_scores(rows, pairs):
    """Every row's scores, on the words that the program cut."""
    rouge, chrf, smooth, worst = Rouge(), CHRF(), SmoothingFunction().method3, {}
    for number, (row, (prediction, reference)) in enumerate(zip(rows, pairs)):
        words = " ".join(row["prediction_words"]) if prediction.strip() else "-"
        scores = rouge.get_scores(words, " ".join(row["reference_words"]))[0]
        wanted = {key: round(scores[key]["f"] * 100, 4) for key in ("rouge-1", "rouge-2", "rouge-l")}
        wanted["bleu-4"] = round(sentence_bleu([list(reference)], list(prediction), smoothing_function=smooth) * 100, 4)
        wanted["chrf"] = chrf.sentence_score(prediction, [reference]).score
        wanted["exact_match"] = 100.0 if prediction.strip() == reference.strip() else 0.0
        for key, value in wanted.items():
            worst[key] = max(worst.get(key, 0), abs(row[key] - value))
            check_same(abs(row[key] - value) < 1e-6, f"row {number} {key}: {row[key]}, wanted {value} for {prediction!r} / {reference!r}")
    print("largest difference of a row's score:", worst)


def check_means(report, rows, pairs):
    for key in ("rouge-1", "rouge-2", "rouge-l", "bleu-4", "chrf", "exact_match"):
        mean = sum(row[key] for row in rows) / len(rows)
        check_same(abs(report[key] - mean) < 1e-6, f"mean {key}: {report[key]}, wanted {mean}")
    corpus = CHRF().corpus_score([pair[0] for pair in pairs], [[pair[1] for pair in pairs]]).score
    print("corpus chrF", report["corpus_chrf"], corpus)
    check_same(abs(report["corpus_chrf"] - corpus) < 1e-6, "chrF of the corpus")


def score(program, folder, pairs, *more):
    write_lines(folder / "predictions.jsonl", "predict", [pair[0] for pair in pairs])
    write_lines(folder / "references.jsonl", "label", [pair[1] for pair in pairs])
    report = json.loads(run_program(program, "evaluate", "text", "--predictions", "predictions.jsonl", "--references", "references.jsonl", "--output",
                                    "rows.jsonl", "--overwrite", "--words", "--json", *more, folder=folder))
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").strip().split("\n")]
    check_same(len(rows) == len(pairs) == report["rows"], "number of rows")
    return report, rows


def main():
    program, shared = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    if not (shared / "data/pretrain").is_dir():
        print("skipped: shared data not found")
        sys.exit(77)
    jieba.setLogLevel(logging.WARNING)
    chance = random.Random(20)
    texts = [text for text in HARD if text.strip()] + sentences(shared, chance)
    pairs = [(changed(text, chance.choice(texts), chance), text) for text in texts]
    check_same(len(pairs) >= 5000, f"only {len(pairs)} sentences")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        report, rows = score(program, folder, pairs)
        compare_words(rows, pairs, jieba, "default dictionary")
        check_scores(rows, pairs)
        check_means(report, rows, pairs)

        (folder / "words.txt").write_text(NEWS_WORDS, encoding="utf-8")
        own = jieba.Tokenizer()
        own.load_userdict(str(folder / "words.txt"))
        pairs = [("深度学习框架里的注意力机制和大模型，梯度 下降的时候一碗水端平", "黛玉葬花的时候，注意力机制一碗水")] + pairs[:1500]
        compare_words(score(program, folder, pairs, "--dictionary", "words.txt")[1], pairs, own, "with a user's dictionary")
    sys.exit(1 if failures else 0)


main()
