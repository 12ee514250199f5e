#!/usr/bin/env python3
"""OpenAI's own client and lm-evaluation-harness against `llama2zh serve`.

usage: serve_oracle.py PROGRAM SOURCE
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import openai
from oracle_program import Program, check_same, failures

MESSAGES = [[{"role": "user", "content": text}] for text in ("你好", "春天来了，", "写一首诗。", "什么是语言模型？")]


@contextlib.contextmanager
def server(program, *args):
    """A running server's base URL; ends it by SIGTERM, which must be clean."""
    process = subprocess.Popen([program.program, "serve", "--port", "0", "--access-log", "none", *map(str, args)], cwd=program.folder,
                               stderr=subprocess.PIPE, text=True)
    url = None
    for line in process.stderr:
        found = re.search(r"listening at (http\S+);", line)
        url = found.group(1) if found else url
        if "ready after" in line:
            break
    if process.poll() is not None or url is None:
        sys.exit("the server did not start")
    try:
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    check_same(process.returncode == 0, f"exit {process.returncode} after SIGTERM")


def check_chat(client):
    """One by one and streamed."""
    answers = []
    for messages in MESSAGES:
        whole = client.chat.completions.create(model="model", messages=messages, max_tokens=24, temperature=0, logprobs=True, top_logprobs=3)
        choice = whole.choices[0]
        check_same(whole.object == "chat.completion" and choice.message.role == "assistant", "chat's shape")
        check_same(len(choice.logprobs.content) == whole.usage.completion_tokens, "a logprob for each token")
        check_same(all(token.top_logprobs[0].logprob >= token.logprob - 1e-6 for token in choice.logprobs.content), "the likeliest come first")
        chunks = list(client.chat.completions.create(model="model", messages=messages, max_tokens=24, temperature=0, stream=True,
                                                     stream_options={"include_usage": True}))
        check_same(chunks[0].choices[0].delta.role == "assistant", "the first chunk has the role")
        check_same(chunks[-1].choices == [] and chunks[-1].usage == whole.usage.model_copy(update={
            "prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}), "the last chunk has the usage")
        check_same(chunks[-2].choices[0].finish_reason == choice.finish_reason, "finish_reason")
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        check_same(text == choice.message.content, f"streamed {text!r}, whole {choice.message.content!r}")
        answers.append(choice.message.content)
    several = client.chat.completions.create(model="model", messages=MESSAGES[0], n=3, seed=7, temperature=1, max_tokens=12, stop=["。"],
                                             extra_body={"top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1, "ignore_eos": True})
    check_same([choice.index for choice in several.choices] == [0, 1, 2], "n answers")
    check_same(all("。" not in choice.message.content for choice in several.choices), "a stop text is not part of the answer")
    return answers


async def check_async(url, answers):
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="any") as client:
        async def joined(messages):
            stream = await client.chat.completions.create(model="model", messages=messages, max_tokens=24, temperature=0, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        got = await asyncio.gather(*[joined(messages) for messages in MESSAGES * 4])
    check_same(got == answers * 4, "16 streams at once are the answers one by one")


def check_schema(client):
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer"}},
              "required": ["name", "age"], "additionalProperties": False}
    for form in ({"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}, {"type": "json_object"}):
        made = client.chat.completions.create(model="model", messages=MESSAGES[0], temperature=1, seed=3, max_tokens=200, response_format=form)
        choice = made.choices[0]
        if choice.finish_reason == "stop":
            value = json.loads(choice.message.content)
            check_same(isinstance(value, dict) and (form["type"] == "json_object" or list(value) == ["name", "age"]), f"JSON: {value}")


def check_others(client):
    made = client.completions.create(model="model", prompt=["春天", "秋天"], max_tokens=4, temperature=0, logprobs=2, echo=True)
    check_same([choice.index for choice in made.choices] == [0, 1] and made.choices[0].text.startswith("春天"), "completions echo")
    check_same(len(made.choices[0].logprobs.tokens) == len(made.choices[0].logprobs.token_logprobs), "completions' logprobs")
    coded = client.embeddings.create(model="model", input=["春天", "秋天"])  # the client asks for base64
    plain = client.embeddings.create(model="model", input=["春天", "秋天"], encoding_format="float")
    check_same([one.embedding for one in coded.data] == [one.embedding for one in plain.data] or max(
        abs(a - b) for x, y in zip(coded.data, plain.data) for a, b in zip(x.embedding, y.embedding)) < 1e-6, "embeddings in both forms")
    check_same([model.id for model in client.models.list().data] == ["model"], "models")
    check_same(client.models.retrieve("model").id == "model", "one model")


def expect_error(kind, work, what):
    try:
        work()
    except kind:
        return
    except Exception as error:  # noqa: BLE001: whatever else it is, it is wrong
        check_same(False, f"{what}: {error!r}")
        return
    check_same(False, f"{what}: no error")


def check_errors(client):
    chat = client.chat.completions
    expect_error(openai.NotFoundError, lambda: chat.create(model="gpt", messages=MESSAGES[0]), "another model")
    expect_error(openai.BadRequestError, lambda: chat.create(model="model", messages=[]), "no messages")
    expect_error(openai.BadRequestError, lambda: chat.create(model="model", messages=MESSAGES[0], n=1000), "n = 1000")
    expect_error(openai.BadRequestError, lambda: chat.create(model="model", messages=[{"role": "user", "content": "好" * 3000}]), "a long prompt")
    expect_error(openai.AuthenticationError, lambda: openai.OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0).models.list(),
                 "a wrong key")


def check_harness(url, folder):
    """lm-evaluation-harness, through the port and through transformers: the same log-likelihoods."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    pairs = [("春天来了，", "花开了。"), ("你好", "，很高兴认识你。"), ("The answer is", " 42."), ("北京是", "中国的首都"), ("一", "二三四五六七")]
    requests = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]
    direct = HFLM(pretrained=str(folder), tokenizer=str(folder), dtype="float32", device="cpu", batch_size=1,
                  add_bos_token=False).loglikelihood(requests)
    os.environ["OPENAI_API_KEY"] = "right"
    served = LocalCompletionsAPI(base_url=url + "/v1/completions", model="model", tokenizer=str(folder), tokenizer_backend="huggingface",
                                 batch_size=2, num_concurrent=1).loglikelihood(requests)
    for pair, (sum_here, greedy_here), (sum_there, greedy_there) in zip(pairs, served, direct):
        check_same(abs(sum_here - sum_there) < 1e-3 * abs(sum_there) and greedy_here == greedy_there,
                   f"log-likelihood of {pair}: {sum_here} {greedy_here}, transformers {sum_there} {greedy_there}")


def main():
    source = Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        program = Program(sys.argv[1], source, Path(folder))
        program.write_turns()
        program.make_model("model")
        (program.folder / "keys").write_text("right\n")
        options = ["--model", "model", "--template", "chatml", "--dtype", "float32", "--deterministic", "--api-key-file", "keys"]
        with server(program, *options) as url:
            client = openai.OpenAI(base_url=url + "/v1", api_key="right", max_retries=0)
            answers = check_chat(client)
            check_schema(client)
            check_others(client)
            check_errors(client)
            check_harness(url, program.folder / "model")
        with server(program, *options[:-2]) as url:
            asyncio.run(check_async(url, answers))
    if failures:
        sys.exit(f"{len(failures)} differences")
    print("OpenAI's client and the harness are served")


if __name__ == "__main__":
    main()
