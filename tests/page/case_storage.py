"""What is kept in the browser: reloads, tabs, export and import, a full disk, no storage."""
import json
import pathlib
import tempfile

from page_case import Scripted


class Storage(Scripted):
    def test_browser_without_storage(self):
        script = self.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": """
            for (const name of ['indexedDB', 'localStorage', 'sessionStorage'])
              Object.defineProperty(window, name, {get() { throw new DOMException('denied', 'SecurityError'); }});"""})
        try:
            self.open()
            self.wait(lambda: "不允许保存" in self.text("#toasts"), "the user is told")
            self.ask("text 一样能聊")
            self.assertEqual(self.answers(), ["一样能聊"])
        finally:
            self.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)

    def test_another_tab_sees_what_is_new(self):
        self.ask("text 甲")
        first = self.browser.current_window_handle
        self.browser.switch_to.new_window("tab")
        self.open()
        self.assertEqual(self.questions(), ["text 甲"])
        self.ask("text 乙")
        self.browser.close()
        self.browser.switch_to.window(first)
        self.wait(lambda: self.questions() == ["text 甲", "text 乙"], "the first tab follows")

    def test_reload_while_writing_keeps_what_came(self):
        self.ask("slow 400", wait=False)
        self.wait(lambda: "第40个字" in self.text(".answer .prose"), "more than one save", 20)
        self.open()
        self.assertIn("第3个字", self.answers()[0])
        self.assertIn("已保留", self.text(".error-box"))

    def downloaded(self, ending):
        folder = pathlib.Path(self.browser.capabilities["goog:chromeOptions"].get("prefs", {}).get("download.default_directory", ""))
        folder = folder if str(folder) != "." else self.download_folder
        self.wait(lambda: list(folder.glob("*" + ending)), f"{ending} is downloaded")
        return next(folder.glob("*" + ending))

    def test_export_and_import(self):
        self.download_folder = pathlib.Path(tempfile.mkdtemp(prefix="page_test"))
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(self.download_folder)})
        self.ask("text 导出**这个**")
        self.choose("#chat-menu-button", "导出 Markdown")
        self.assertIn("## 助手\n\n导出**这个**\n", self.downloaded(".md").read_text())
        self.choose("#chat-menu-button", "导出 JSON")
        file = self.downloaded(".json")
        content = json.loads(file.read_text())
        self.assertEqual([m["content"] for m in content["conversations"][0]["messages"]], ["text 导出**这个**", "导出**这个**"])
        self.choose("#data-button", "全部删除")
        self.click("#confirm-ok")
        self.wait(lambda: not self.all(".conversation"), "all are gone")
        self.find("#import-file").send_keys(str(file))
        self.wait(lambda: self.questions() == ["text 导出**这个**"], "imported")
        broken = self.download_folder / "broken.json"
        broken.write_text(json.dumps({**content, "conversations": [{"messages": [{"role": "system", "content": 1}]}]}))
        self.find("#import-file").send_keys(str(broken))
        self.wait(lambda: "导入失败" in self.text("#toasts"), "refused")
        self.assertEqual(len(self.all(".conversation")), 1)

    def test_full_storage_is_said(self):
        self.browser.execute_cdp_cmd("Storage.overrideQuotaForOrigin", {"origin": self.base.rstrip("/"), "quotaSize": 1000})
        try:
            self.ask("text " + "长" * 3000, wait=False)
            self.wait(lambda: "存储空间已满" in self.text("#toasts"), "the user is told")
        finally:
            self.browser.execute_cdp_cmd("Storage.overrideQuotaForOrigin", {"origin": self.base.rstrip("/")})
