"""A server that is busy, loads, wants a key, fails, or whose connection is cut; answers and conversations that are too long."""
from page_case import Scripted
from selenium.webdriver.common.keys import Keys


class Failures(Scripted):
    def test_busy_server_is_asked_again_after_its_delay(self):
        self.ask("429 x", wait=False)
        self.wait(lambda: "服务器繁忙" in self.text(".answer-note"), "the wait is shown")
        self.wait(lambda: self.idle() and self.answers()[0].startswith("当然可以"), "answered at the second try")
        times = [entry["time"] for entry in self.server_log() if entry["path"] == "/v1/chat/completions" and entry["body"]["messages"][-1]["content"] == "429 x"]
        self.assertEqual(len(times), 2)
        self.assertGreater(times[1] - times[0], 0.95)

    def test_loading_server_is_waited_for(self):
        self.ask("503 x", wait=False)
        self.wait(lambda: "模型加载中" in self.text(".answer-note"), "the wait is shown")
        self.wait(lambda: self.idle() and self.answers()[0].startswith("当然可以"), "answered when loaded")
        self.post_state({"loading_for": 2})
        self.browser.get(self.base)
        self.wait(lambda: "模型加载中" in self.text("#banner"), "the banner says that the model loads")
        self.wait(lambda: not self.all("#banner:not([hidden])"), "the banner goes")

    def test_missing_key_is_asked_for(self):
        self.post_state({"key": "geheim"})
        self.browser.get(self.base)
        self.wait(lambda: self.all("#key-dialog[open]"), "the key is asked for")
        self.find("#key").send_keys("falsch" + Keys.ENTER)
        self.wait(lambda: self.all("#key-dialog[open]") and self.find("#key").get_property("value") == "", "a wrong key is asked for again")
        self.find("#key").send_keys("geheim" + Keys.ENTER)
        self.wait(lambda: not self.find("#model").get_property("disabled"), "connected")
        self.ask("text 好")
        self.assertEqual(self.answers(), ["好"])
        self.assertNotIn("geheim", self.run_script("return JSON.stringify(localStorage)"))
        self.open()  # the tab still knows it
        self.assertEqual(self.all("#key-dialog[open]"), [])
        self.post_state({"key": "neu"})
        self.ask("text 又", wait=False)
        self.wait(lambda: self.all("#key-dialog[open]"), "the key is asked for when it has changed")
        self.find("#key").send_keys("neu" + Keys.ENTER)
        self.wait(lambda: self.idle() and self.answers() == ["好", "又"], "answered")
        self.post_state({"key": "weg"})
        self.ask("text 没", wait=False)
        self.wait(lambda: self.all("#key-dialog[open]"), "asked once more")
        self.type_escape()
        self.wait(lambda: self.idle() and "需要有效的 API 密钥" in self.text(".answer:last-child .error-box"), "without a key it says so")

    def test_refused_page_says_why_and_asks_for_no_key(self):
        self.post_state({"refusing": "not called by this name"})
        self.ask("text 好")
        self.assertIn("not called by this name", self.text(".answer:last-child .error-detail"))
        self.assertEqual(self.all("#key-dialog[open]"), [])
        self.browser.get(self.base)
        self.wait(lambda: "not called by this name" in self.text("#banner"), "the banner says why")
        self.assertEqual(self.all("#key-dialog[open]"), [])
        self.post_state({})
        self.wait(lambda: not self.all("#banner:not([hidden])"), "connected")

    def failure(self, prompt, words):
        self.ask(prompt)
        self.assertIn(words, self.text(".answer:last-child .error-box"))
        return self.answers()[-1]

    def test_failures_are_said_in_words_and_retried(self):
        self.failure("500", "服务器出错了")
        kept = self.failure("error", "服务器出错了")
        self.assertTrue(kept.startswith("当然可以"))
        self.assertIn("the engine failed", self.text(".answer:last-child .error-detail"))
        for prompt in ("cut", "silent"):
            kept = self.failure(prompt, "连接中断，已保留收到的部分")
            self.assertTrue(kept.startswith("当然可以"))
        self.open()
        self.assertIn("连接中断", self.text(".answer:last-child .error-box"))
        self.click(".answer:last-child .retry")
        self.wait(lambda: self.idle() and "连接中断" in self.text(".answer:last-child .error-box"), "tried again")

    def test_full_context_offers_to_leave_out_the_earliest_turn(self):
        self.ask("text 甲")
        self.failure("context", "超出了模型的上下文")
        self.network("")
        next(b for b in self.all(".error-box button") if "最早" in b.text).click()
        self.wait(lambda: self.idle() and self.answers()[-1].startswith("当然可以"), "answered")
        self.assertEqual([m["content"] for m in self.chat_requests()[-1]["messages"]], ["context"])
        self.assertIn("不再发送", self.text(".skip-line"))

    def test_answer_cut_off_at_the_length_can_go_on(self):
        self.ask("length")
        self.assertIn("截断", self.text(".answer-note"))
        self.click(".answer-note .link-button")
        self.wait(lambda: self.questions() == ["length", "继续"] and self.idle(), "continued")
