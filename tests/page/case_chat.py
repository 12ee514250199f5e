"""Asking, stopping, editing, choosing a model, typing with an input method."""
from page_case import Scripted
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys


class Chat(Scripted):
    def test_stop_keeps_what_came_and_reaches_the_server(self):
        self.ask("slow 400", wait=False)
        self.wait(lambda: "第3个字" in self.text(".answer .prose"), "the answer grows")
        self.assertTrue(self.all(".send.stop"))
        self.click("#send")
        self.wait(self.idle, "stopped", 1)
        kept = self.answers()[0]
        self.assertIn("第3个字", kept)
        self.assertIn("已停止", self.text(".answer-note"))
        self.wait(lambda: any(entry["method"] == "GONE" for entry in self.server_log()), "the server sees the connection close", 3)
        self.open()
        self.assertEqual(self.answers(), [kept])

    def test_escape_stops(self):
        self.ask("slow 400", wait=False)
        self.wait(lambda: "第3个字" in self.text(".answer .prose"), "the answer grows")
        ActionChains(self.browser).send_keys(Keys.ESCAPE).perform()
        self.wait(self.idle, "stopped", 2)

    def test_regenerate_and_undo(self):
        self.ask("text 甲")
        self.ask("text 乙")
        self.network("")
        self.all("[data-action=regenerate]")[0].click()
        self.wait(lambda: self.questions() == ["text 甲"] and self.idle(), "later messages are gone, a new answer is here")
        self.assertEqual([m["content"] for m in self.chat_requests()[-1]["messages"]], ["text 甲"])
        self.click(".toast-action")
        self.wait(lambda: self.questions() == ["text 甲", "text 乙"], "undone")

    def test_edit_and_resend(self):
        self.ask("text 甲")
        self.ask("text 乙")
        self.click(".question [data-action=edit]")
        field = self.find(".edit-field")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys("text 丙")
        self.click("[data-action=resend]")
        self.wait(lambda: self.answers() == ["丙"] and self.idle(), "answered anew")
        self.assertEqual(self.questions(), ["text 丙"])
        self.open()
        self.assertEqual(self.questions(), ["text 丙"])
        self.find("#input").send_keys(Keys.ARROW_UP)
        self.assertEqual(self.find(".edit-field").get_property("value"), "text 丙")

    def test_enter_of_an_input_method_does_not_send(self):
        self.type("nihao")
        for event in ("{key: 'Enter', isComposing: true}", "{key: 'Enter', keyCode: 229}"):
            self.run_script(f"document.getElementById('input').dispatchEvent(new KeyboardEvent('keydown', {{bubbles: true, cancelable: true, ...{event}}}))")
        # A composition as the browser itself makes it.
        self.browser.execute_cdp_cmd("Input.imeSetComposition", {"text": "你好", "selectionStart": 2, "selectionEnd": 2})
        self.browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229})
        self.browser.execute_cdp_cmd("Input.insertText", {"text": "你好"})
        self.assertEqual(self.questions(), [])
        self.type(Keys.SHIFT + Keys.ENTER)
        self.type("第二行")
        self.assertEqual(self.find("#input").get_property("value"), "nihao你好\n第二行")
        self.assertEqual(self.questions(), [])
        self.type(Keys.ENTER)
        self.wait(lambda: self.questions() == ["nihao你好\n第二行"], "sent")
        self.wait(self.idle, "answered")

    def test_model_choice_offers_adapters(self):
        options = [element.get_property("value") for element in self.all("#model option")]
        self.assertEqual(options, ["llama2zh-7b", "medical", "legal"])
        self.set_value("#model", "medical")
        self.ask("echo")
        self.assertIn('"model": "medical"', self.answers()[0])
        self.assertNotIn('"seed"', self.answers()[0])
        self.click("#new-chat")
        self.assertEqual(self.find("#model").get_property("value"), "medical")

    def test_each_conversation_is_a_session_of_its_own(self):
        self.ask("text 甲")
        self.ask("text 乙")
        self.click("#new-chat")
        self.ask("text 丙")
        first, second, other = [entry["session"] for entry in self.server_log() if entry["path"] == "/v1/chat/completions"][-3:]
        self.assertRegex(first, r"^[0-9a-f]{24}$")
        self.assertEqual(first, second)
        self.assertNotEqual(first, other)

    def test_answer_goes_on_behind_another_conversation(self):
        self.ask("slow 60", wait=False)
        self.click("#new-chat")
        self.ask("text 前台")
        self.assertEqual(self.answers(), ["前台"])
        next(e for e in self.all(".conversation-name") if e.text == "slow 60").click()
        self.wait(self.idle, "complete", 20)
        self.assertIn("第59个字", self.answers()[0])
