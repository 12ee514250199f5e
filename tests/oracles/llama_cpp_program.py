"""llama.cpp through the package xllamacpp: what the oracles ask of it."""

import json
import urllib.request

import xllamacpp


class LlamaCpp:
    def __init__(self, file):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(file)
        parameters.n_ctx = 512
        parameters.cpuparams.n_threads = 1  # its threads wait by spinning, which starves whatever runs beside them
        parameters.warmup = False
        self.server = xllamacpp.Server(parameters)

    def continue_greedily(self, prompt, tokens):
        request = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "repeat_penalty": 1.0}
        return self.server.handle_completions(request)["choices"][0]["text"]

    def likeliest(self, prompt, tokens):
        """The greedy answer as [(id, {id: log-probability of the likeliest})], without the token that ends it."""
        request = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "repeat_penalty": 1.0, "n_probs": 10}
        rows = self.server.handle_completions(request)["choices"][0]["logprobs"]["content"]
        return [(row["id"], {top["id"]: top["logprob"] for top in row["top_logprobs"]}) for row in rows]

    def ids(self, text, special):
        body = json.dumps({"content": text, "add_special": special, "parse_special": special}).encode()
        request = urllib.request.Request(f"{self.server.listening_address}/tokenize", body)
        return json.load(urllib.request.urlopen(request))["tokens"]
