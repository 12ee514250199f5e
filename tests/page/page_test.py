"""The chat page in real headless Chromium: what a user does, what the server is asked, what hostile answers cannot do.

    python page_test.py [--base-url http://host:port/] [--key KEY] [--screenshots DIR] [unittest options, e.g. -v Hostile]

Without --base-url it starts tests/page/fake_server.py and runs everything. With one, it runs what any server can answer (AnyServer).
Needs selenium, and Debian's chromium and chromium-driver; without them it exits with 77 (skipped) and says what is missing.
"""
import argparse
import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import page_case  # noqa: E402
from case_any_server import AnyServer  # noqa: E402, F401
from case_chat import Chat  # noqa: E402, F401
from case_failures import Failures  # noqa: E402, F401
from case_hostile import Hostile  # noqa: E402, F401
from case_rendering import Rendering  # noqa: E402, F401
from case_screens import Screens  # noqa: E402, F401
from case_storage import Storage  # noqa: E402, F401

if __name__ == "__main__":
    for program in (page_case.CHROMIUM, page_case.DRIVER):
        if not os.access(program, os.X_OK):
            print(f"page_test: skipped, {program} is missing (scripts/setup.sh --tests installs it)")
            sys.exit(77)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="a running server's address")
    parser.add_argument("--key", help="its API key")
    parser.add_argument("--screenshots", help="a folder for screenshots")
    _, rest = parser.parse_known_args(namespace=page_case.OPTIONS)
    if page_case.OPTIONS.base_url and not page_case.OPTIONS.base_url.endswith("/"):
        page_case.OPTIONS.base_url += "/"
    unittest.main(argv=[sys.argv[0], *rest])
