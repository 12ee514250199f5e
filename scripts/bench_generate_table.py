"""The table of scripts/bench_generate.sh: tokens/s of each program, the best of its rounds, ours divided by the other's."""
import json, sys

figures = {}  # (work, format) -> {who: tokens/s}


def put(row, work, rate):
    rates = figures.setdefault((work, row["format"]), {})
    rates[row["who"]] = max(rate, rates.get(row["who"], 0))


for line in open(sys.argv[1]):
    row = json.loads(line)
    what = row.get("what")
    if what == "generate":  # llama2zh
        for result in row["results"]:
            kind = "prompt" if result["test"].startswith("pp") else "answer"
            put(row, "%s, batch %d" % (kind, result["batch"]), result["tok_s_best"])
            if "share_of_memory_limit" in result and result["batch"] == 1:
                put({**row, "who": "of what memory allows"}, "answer, batch 1", result["memory_limit_tok_s"])
    elif what == "throughput":
        put(row, "%d requests" % row["requests"], row["output_tok_s"])
    elif what == "hf_gen":
        if "one by one" in row["who"]:
            for work in ("8 requests", "32 requests"):
                put(row, work, row["total_out_tok_s"])
        else:
            put(row, "prompt, batch %d" % row["bs"], row["prefill_tok_s"])
            put(row, "answer, batch %d" % row["bs"], row["decode_tok_s"])
    elif "n_prompt" in row:  # llama-bench
        put(row, "prompt, batch 1" if row["n_prompt"] > 0 else "answer, batch 1", max(row["samples_ts"]))
    elif "speed_tg" in row:  # llama-batched-bench
        put(row, "answer, batch %d" % row["pl"], row["speed_tg"])

for (work, kind), rates in figures.items():  # vLLM's build for processors has no int8 or int4 of its own
    if work.endswith("requests") and kind != "bf16" and "vLLM" in figures.get((work, "bf16"), {}):
        rates["vLLM in bf16"] = figures[work, "bf16"]["vLLM"]

print("| work | format | llama2zh | beside | tokens/s | ratio |\n|---|---|---|---|---|---|")
for (work, kind), rates in sorted(figures.items()):
    ours = rates.get("llama2zh")
    others = {who: rate for who, rate in rates.items() if who != "llama2zh"} or {"": None}
    for who, rate in others.items():
        print("| %s | %s | %s | %s | %s | %s |" % (work, kind, "-" if ours is None else "%.4g" % ours, who, "-" if rate is None else "%.4g" % rate,
                                                 "-" if not (ours and rate) else "%.2f" % (ours / rate)))
