"""What the page does against any server, also a real one."""
from page_case import OPTIONS, PageCase
from selenium.webdriver.common.keys import Keys


class AnyServer(PageCase):
    def test_conversation_in_chinese_from_typing_to_answer_and_reload(self):
        self.assertEqual(self.run_script("return document.documentElement.lang"), "zh-CN")
        self.assertEqual(self.text("#welcome h2"), "想聊点什么？")
        self.network("")
        self.ask("用一句话介绍你自己。", wait=False)
        self.wait(lambda: self.text(".answer .prose") != "", "the answer begins", 60)
        self.wait(self.idle, "the answer is complete", 120)
        first = self.answers()
        self.assertIn("词元/秒", self.text(".figures"))
        self.assertRegex(self.text("#meter-text"), r"上下文 [\d,]+")
        self.assertTrue(self.find("#meter").is_displayed())
        self.assertEqual(self.text("#title"), "用一句话介绍你自己。")
        self.ask("再说一句。")
        request = self.chat_requests()[-1]
        self.assertEqual([message["role"] for message in request["messages"]], ["user", "assistant", "user"])
        self.assertTrue(request["stream"])
        self.open()
        self.assertEqual(self.questions(), ["用一句话介绍你自己。", "再说一句。"])
        self.assertEqual(self.answers()[0], first[0])
        self.assertEqual(self.console(), [])

    def test_sliders_system_prompt_and_seed_reach_the_server(self):
        self.click("#settings-button")
        for key, value in {"max_tokens": 48, "temperature": 0.35, "top_p": 0.55, "repetition_penalty": 1.25}.items():
            self.set_value("#" + key, value)
        self.set_value("#system", "你只说中文。")
        self.set_value("#seed", "42")
        self.type_escape()
        self.network("")
        self.ask("你好")
        request = self.chat_requests()[-1]
        self.assertEqual({key: request[key] for key in ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed")},
                         {"max_tokens": 48, "temperature": 0.35, "top_p": 0.55, "repetition_penalty": 1.25, "seed": 42})
        self.assertEqual(request["messages"][0], {"role": "system", "content": "你只说中文。"})
        if not OPTIONS.base_url:  # a scripted server tells what has reached it
            reached = [entry["body"] for entry in self.server_log() if entry["path"] == "/v1/chat/completions"][-1]
            self.assertEqual(reached, request)
        self.open()
        self.click("#settings-button")
        self.assertEqual(self.find("#temperature").get_property("value"), "0.35")
        self.assertEqual(self.find("#seed").get_property("value"), "42")

    def test_several_conversations_rename_delete_undo(self):
        self.ask("第一个话题")
        self.click("#new-chat")
        self.ask("第二个话题")
        self.assertEqual(self.texts(".conversation-name"), ["第二个话题", "第一个话题"])
        self.all(".conversation-name")[1].click()
        self.assertEqual(self.questions(), ["第一个话题"])
        self.choose("#chat-menu-button", "重命名")
        self.find(".rename-field").send_keys(Keys.CONTROL, "a")
        self.find(".rename-field").send_keys("改过的名字" + Keys.ENTER)
        self.wait(lambda: self.text("#title") == "改过的名字", "renamed")
        self.choose("#chat-menu-button", "删除")
        self.wait(lambda: len(self.all(".conversation")) == 1, "deleted")
        self.click(".toast-action")
        self.wait(lambda: self.questions() == ["第一个话题"], "restored")
        self.choose("#chat-menu-button", "清空消息")
        self.wait(lambda: self.questions() == [], "cleared")
        self.open()
        self.assertEqual(len(self.all(".conversation")), 2)

    def test_language_and_theme_switches_are_kept(self):
        self.click("#language-button")
        self.assertEqual(self.find("#input").get_attribute("placeholder"), "Message the model")
        background = "return getComputedStyle(document.body).backgroundColor"
        light = self.run_script(background)
        self.click("#theme-button")
        self.assertEqual(self.run_script(background), light)
        self.click("#theme-button")
        dark = self.run_script(background)
        self.assertNotEqual(dark, light)
        self.open()
        self.assertEqual(self.run_script(background), dark)
        self.assertEqual(self.run_script("return document.documentElement.lang"), "en")
