"""What the tests of the page share: a headless Chromium, the fake server, and the words in which a test speaks."""
import json
import pathlib
import sys
import tempfile
import types
import unittest
import urllib.request

import fake_server

try:
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:
    print("page_test: skipped, Python has no selenium (scripts/oracles.sh installs it)")
    sys.exit(77)

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
OPTIONS = types.SimpleNamespace(base_url=None, key=None, screenshots=None)  # of the command line (page_test.py)


def start_browser(language="zh-CN", width=1280, height=900, dark=False):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "force-prefers-reduced-motion"):
        options.add_argument("--" + argument)
    options.add_experimental_option("prefs", {"intl.accept_languages": language, "download.default_directory": tempfile.mkdtemp(prefix="page_test")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
    return browser


class PageCase(unittest.TestCase):
    """One browser for a class; each test starts with empty storage."""

    @classmethod
    def setUpClass(cls):
        cls.browser = start_browser()
        cls.server = None if OPTIONS.base_url else fake_server.start()
        cls.base = OPTIONS.base_url or f"http://127.0.0.1:{cls.server.server_address[1]}/"

    @classmethod
    def tearDownClass(cls):
        cls.browser.quit()
        if cls.server:
            cls.server.shutdown()
            cls.server.server_close()

    def setUp(self):
        self.post_state({})
        self.browser.get(self.base + "assets/icon.svg")  # the origin, without the page's open database
        self.browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": self.base.rstrip("/"), "storageTypes": "all"})
        self.run_script("try { sessionStorage.clear(); } catch {}")
        if OPTIONS.key:
            self.run_script("sessionStorage.setItem('llama2zh.key', arguments[0])", OPTIONS.key)
        self.console()
        self.open()

    # What a test says.

    def open(self):
        self.browser.get(self.base)
        self.wait(lambda: not self.find("#model").get_property("disabled"), "models are listed")

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.run_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def run_script(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition, what, seconds=15):
        WebDriverWait(self.browser, seconds, poll_frequency=0.03).until(lambda _: condition(), f"waited {seconds} s: {what}")

    def idle(self):
        return not self.all(".streaming") and not self.all(".send.stop")

    def type(self, text):
        self.find("#input").send_keys(text)

    def ask(self, text, wait=True):
        before = len(self.all(".message"))
        self.type(text + Keys.ENTER)
        self.wait(lambda: len(self.all(".message")) >= before + 2, "the question is shown")
        if wait:
            self.wait(self.idle, "the answer is complete", 60)

    def answers(self):
        return self.texts(".answer .prose")

    def questions(self):
        return self.texts(".bubble")

    def texts(self, selector):
        return self.run_script("return [...document.querySelectorAll(arguments[0])].map(element => element.innerText)", selector)

    def click(self, selector):
        element = self.find(selector)
        self.run_script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.browser).move_to_element(element).click().perform()

    def type_escape(self):
        ActionChains(self.browser).send_keys(Keys.ESCAPE).perform()

    def choose(self, selector, label):
        self.click(selector)
        next(item for item in self.all("#menu button") if item.text == label).click()

    def post_state(self, state):
        if OPTIONS.base_url:
            return
        request = urllib.request.Request(self.base + "_test/state", json.dumps(state).encode(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request).read()

    def server_log(self):
        return json.load(urllib.request.urlopen(self.base + "_test/log"))

    def chat_requests(self):
        """The bodies the browser has sent to the chat route since the last look, whatever the server is."""
        return [json.loads(params["request"]["postData"]) for params in self.network("Network.requestWillBeSent")
                if params["request"]["url"].endswith("/v1/chat/completions")]

    def network(self, method):
        entries = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [entry["params"] for entry in entries if entry["method"] == method]

    def console(self):
        """Errors of the page since the last look (refused requests, which the console names too, apart)."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE" and "Failed to load resource" not in entry["message"]]

    def set_value(self, selector, value):
        self.run_script("const e = document.querySelector(arguments[0]); e.value = arguments[1];"
                        "e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true}))", selector, value)

    def screenshot(self, name):
        if OPTIONS.screenshots:
            pathlib.Path(OPTIONS.screenshots).mkdir(parents=True, exist_ok=True)
            self.browser.save_screenshot(f"{OPTIONS.screenshots}/{name}.png")


class Scripted(PageCase):
    """Against the fake server, whose answers the prompt decides."""

    def setUp(self):
        if OPTIONS.base_url:
            self.skipTest("needs the fake server's scripted answers")
        super().setUp()

    def tearDown(self):
        self.assertEqual(self.console(), [], "errors in the console")
