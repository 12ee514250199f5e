"""vLLM's offline engine on many requests of random tokens, for scripts/bench_generate.sh: one JSON line for each number of requests."""
import argparse, json, os, random, time

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--requests", type=int, nargs="+", default=[8, 32])
parser.add_argument("--tokens", type=int, default=128, help="of each prompt and of each answer")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--kv-gib", type=int, default=2)
args = parser.parse_args()
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(args.kv_gib))
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "0-%d" % (args.threads - 1))
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def main():
    from vllm import LLM, SamplingParams

    llm = LLM(args.model, dtype="bfloat16", skip_tokenizer_init=True, max_model_len=2 * args.tokens + 16, enable_prefix_caching=False, disable_log_stats=True)
    vocabulary = json.load(open(args.model + "/config.json"))["vocab_size"]
    sampling = SamplingParams(temperature=0, max_tokens=args.tokens, ignore_eos=True, detokenize=False)
    draw = random.Random(0)

    def prompts(count):
        return [{"prompt_token_ids": [draw.randrange(3, vocabulary) for _ in range(args.tokens)]} for _ in range(count)]

    llm.generate(prompts(2), sampling, use_tqdm=False)  # warm
    for count in args.requests:
        batch = prompts(count)
        start = time.perf_counter()
        llm.generate(batch, sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        print(json.dumps({"what": "throughput", "requests": count, "seconds": round(seconds, 3), "output_tok_s": round(count * args.tokens / seconds, 2),
                          "tok_s": round(2 * count * args.tokens / seconds, 2)}), flush=True)


if __name__ == "__main__":
    main()
