"""A server for developing and testing the page: the page's files with their headers, and the OpenAI routes with answers scripted by the prompt.

    python3 tests/page/fake_server.py [--port 8765]

Prompts (see ANSWERS and `answer`): echo, slow N, long N, hostile, runaway, length, "429", "503", error, cut, silent, context; anything else: a sample answer.
Tests read what was asked at GET /_test/log, and set {"key": "...", "loading_for": seconds, "refusing": "why"} at POST /_test/state.
"""
import argparse
import http.server
import json
import threading
import time
import urllib.parse

import page_assets

MODELS = [("llama2zh-7b", None), ("medical", "llama2zh-7b"), ("legal", "llama2zh-7b")]
CONTEXT = 4096

SAMPLE = """当然可以。下面用**一个例子**说明**f(x)**的用法：

## 二次方程

方程 $ax^2+bx+c=0$（其中 $a\\ne 0$）的求根公式是

$$
x = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}
$$

| 判别式 | 实根个数 |
|:------|:-------:|
| $\\Delta>0$ | 2 |
| $\\Delta=0$ | 1 |
| $\\Delta<0$ | 0 |

用 Python 可以这样写：

```python
import math

def solve(a: float, b: float, c: float) -> list[float]:
    \"\"\"返回实根。\"\"\"
    delta = b * b - 4 * a * c
    if delta < 0:
        return []  # 没有实根
    return [(-b + s * math.sqrt(delta)) / (2 * a) for s in (1, -1)]
```

1. 先算判别式；
2. 再代入公式，注意 \\(a\\) 不为零；
3. 价格是 $5 和 $6 时不是公式。

> 欲穷千里目，更上一层楼。

详见https://example.com/quadratic。祝学习愉快！"""

HOSTILE = """<script>window.hacked=1</script><img src=x onerror="window.hacked=2">

[点我](javascript:window.hacked=3) [data](data:text/html,<script>window.hacked=4</script>) ![图](http://127.0.0.1:9/evil.png?q=1) ![a"onerror="window.hacked=5](x)

<svg onload="window.hacked=6"><style>body{display:none}</style><iframe src="http://127.0.0.1:9/frame"></iframe>
<form action="http://127.0.0.1:9/form"><input name="attributes"><button>发送</button></form>

<a id="conversations" name="input" href="http://127.0.0.1:9/x">clobber</a> <div class="app" style="position:fixed;inset:0">盖住</div>

$\\href{javascript:window.hacked=7}{x}$ $\\includegraphics{http://127.0.0.1:9/i.png}$ $\\htmlStyle{position:fixed}{y}$ $\\url{http://127.0.0.1:9/u}$ $\\rule{1000em}{1000em}$

$$\\def\\a{xxxxxxxxxx}\\def\\b{\\a\\a\\a\\a\\a\\a\\a\\a\\a\\a}\\def\\bomb{\\b\\b\\b\\b\\b\\b\\b\\b\\b\\b}\\bomb\\bomb\\bomb\\bomb\\bomb$$

```html" onmouseover="window.hacked=8
<img src=http://127.0.0.1:9/code.png onerror=window.hacked=9>
```

<math><mtext><table><mglyph><style><img src=x onerror=window.hacked=10></style></mglyph></table></mtext></math>

[普通链接](https://example.com/ok) <http://127.0.0.1:9/auto>

[ref]: javascript:window.hacked=11
[引用][ref]"""


# highlight.js 9 takes a time for this that grows with the square of its length: minutes.
RUNAWAY = "```livescript\n" + "$" * 90_000 + "\n```\n\n```python\nimport math\n```"


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.log, self.key, self.ready_at, self.refusing, self.failed = [], None, 0.0, None, set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = None
    files = page_assets.files()

    def log_message(self, *args):
        pass

    def reply(self, status, body, content_type="application/json", headers=()):
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def reply_json(self, status, value, headers=()):
        self.reply(status, json.dumps(value).encode(), headers=headers)

    def refuse(self, status, message, code=None, headers=()):
        self.reply_json(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}, headers)

    def note(self, body=None):
        with self.state.lock:
            self.state.log.append({"method": self.command, "path": self.path, "body": body, "time": time.time(),
                                   "session": self.headers.get("X-Session-Id")})

    def allowed(self):
        if self.state.refusing:
            self.refuse(403, self.state.refusing, "host_not_allowed")
            return False
        if self.state.key is None or self.headers.get("Authorization") == f"Bearer {self.state.key}":
            return True
        self.refuse(401, "invalid API key", "invalid_api_key")
        return False

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        if path == "/_test/log":
            return self.reply_json(200, self.state.log)
        self.note()
        if path in self.files:
            file = self.files[path]
            name = "index.html" if path == "/" else path
            kind = page_assets.TYPES["." + name.rsplit(".", 1)[1]]
            return self.reply(200, file.read_bytes(), kind, page_assets.headers())
        if path == "/health" and self.state.refusing:
            return self.refuse(403, self.state.refusing, "host_not_allowed")
        if path == "/health":
            ready = time.time() >= self.state.ready_at
            return self.reply_json(200 if ready else 503, {"status": "ok" if ready else "loading"})
        if path == "/v1/models":
            if self.allowed():
                data = [{"id": name, "object": "model", "created": 1, "owned_by": "llama2zh", "root": name, "parent": parent, "max_model_len": CONTEXT}
                        for name, parent in MODELS]
                self.reply_json(200, {"object": "list", "data": data})
            return None
        return self.refuse(404, f"no route {path}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/_test/state":
            with self.state.lock:
                self.state.key = body.get("key")
                self.state.refusing = body.get("refusing")
                self.state.ready_at = time.time() + body.get("loading_for", 0)
                self.state.failed.clear()
            return self.reply_json(200, {})
        self.note(body)
        if self.path != "/v1/chat/completions":
            return self.refuse(404, f"no route {self.path}")
        if not self.allowed():
            return None
        return self.answer(body, body["messages"][-1]["content"].strip())

    def first_time(self, name):
        with self.state.lock:
            new = name not in self.state.failed
            self.state.failed.add(name)
        return new

    def answer(self, body, prompt):
        word, _, rest = prompt.partition(" ")
        if word in ("429", "503") and self.first_time(prompt):
            if word == "503":
                self.state.ready_at = time.time() + 1
            return self.refuse(int(word), "try again later", headers={"Retry-After": "1"})
        if word == "context" and len(body["messages"]) > 1:
            return self.refuse(400, "This model's maximum context length is 4096 tokens", "context_length_exceeded")
        if word == "500":
            return self.refuse(500, "internal error")
        text, delay = {"echo": lambda: "```json\n" + json.dumps({k: v for k, v in body.items() if k != "messages"}, indent=1, sort_keys=True) + "\n```",
                       "slow": lambda: "".join(f"第{i}个字，" for i in range(int(rest or 200))),
                       "long": lambda: "\n\n".join(f"{i}. 这是**第 {i} 段**，行内公式 $x_{{{i}}}^2$ 和 `代码`。" for i in range(1, int(rest or 300) + 1)),
                       "text": lambda: rest,
                       "runaway": lambda: RUNAWAY,
                       "hostile": lambda: HOSTILE}.get(word, lambda: SAMPLE)(), {"slow": 0.03, "long": 0.001}.get(word, 0.004)
        self.begin_stream()
        self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], "usage": None})
        size = 3000 if word == "runaway" else 3
        pieces = [text[i:i + size] for i in range(0, len(text), size)]
        for number, piece in enumerate(pieces):
            if word in ("error", "cut", "silent") and number == 8:
                return self.break_off(word)
            self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}], "usage": None})
            time.sleep(delay)
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length" if word == "length" else "stop"}], "usage": None})
        usage = {"prompt_tokens": sum(len(m["content"]) for m in body["messages"]), "completion_tokens": len(pieces)}
        self.event({"choices": [], "usage": {**usage, "total_tokens": sum(usage.values())}})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")
        return None

    def begin_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        except OSError as error:  # the browser has gone: what the real server takes as "stop"
            with self.state.lock:
                self.state.log.append({"method": "GONE", "path": self.path, "body": None, "time": time.time()})
            self.close_connection = True
            raise ConnectionAbortedError from error

    def event(self, value):
        self.chunk(f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode())

    def break_off(self, how):
        if how == "error":
            self.event({"error": {"message": "the engine failed", "type": "server_error", "param": None, "code": 500}})
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        elif how == "silent":  # a complete HTTP answer, but no [DONE]
            self.chunk(b"")
        else:
            self.close_connection = True
            self.connection.close()

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass


def start(port=0):
    """A server in a thread of its own, listening on loopback; stop it with shutdown()."""
    handler = type("BoundHandler", (Handler,), {"state": State()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--port", type=int, default=8765)
    running = start(arguments.parse_args().port)
    print(f"http://127.0.0.1:{running.server_address[1]}/", flush=True)
    threading.Event().wait()
