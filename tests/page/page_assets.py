"""The page's files as the server offers them, from the repository and the Debian packages: the same list that cmake/EmbedFiles.cmake embeds."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "assets" / "page"
SHARE = pathlib.Path("/usr/share")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
         ".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8"}


def files():
    """{path on the page: file}."""
    found = {f"/assets/{file.name}": file for file in sorted(PAGE.iterdir()) if file.name not in ("index.html", "libraries.txt")}
    found["/"] = PAGE / "index.html"
    for line in (PAGE / "libraries.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, source = line.split()
            found[f"/assets/{name}"] = SHARE / source
    return found


def headers():
    """The headers of every file of the page, as include/llama2zh/serve/page_files.h states them."""
    text = (ROOT / "include/llama2zh/serve/page_files.h").read_text()
    policy = "".join(re.findall(r'"([^"]*)"', re.search(r"kPageContentSecurityPolicy =(.*?);\n", text, re.S)[1]))
    pairs = re.findall(r'\{"([\w-]+)", "([^"]*)"\}', text)
    assert policy.startswith("default-src 'none'") and pairs, "page_files.h no longer reads as this expects"
    return {"Content-Security-Policy": policy, **dict(pairs)}
