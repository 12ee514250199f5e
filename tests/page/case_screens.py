"""Nothing is wider than the screen, at desk and phone width in both colour schemes; with --screenshots, pictures for looking at."""
import time

from page_case import OPTIONS, Scripted
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys


class Screens(Scripted):
    def fits(self, name, width):
        self.screenshot(name)
        self.assertLessEqual(self.run_script("return document.documentElement.scrollWidth"), width, name)

    def test_everything_fits_the_width(self):
        for dark in (False, True) if OPTIONS.screenshots else (False,):
            for width, height in ((1280, 860), (390, 844)):
                name = f"{'dark' if dark else 'light'}_{width}"
                self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
                self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
                self.setUp()
                self.fits(name + "_welcome", width)
                self.ask("请讲讲一元二次方程的求根公式")
                self.wait(lambda: self.all(".prose .hljs-keyword"), "highlighted", 60)
                self.fits(name + "_end", width)
                self.run_script("document.getElementById('scroller').scrollTop = 0")
                time.sleep(0.2)
                self.fits(name + "_top", width)
                self.ask("cut")
                self.ask("slow 100", wait=False)
                self.wait(lambda: "第9个字" in self.text(".answer:last-child .prose"), "grows")
                self.fits(name + "_failed_and_growing", width)
                self.click("#send")
                self.wait(self.idle, "stopped")
                if width < 760:
                    self.click("#open-sidebar")
                    time.sleep(0.4)
                self.click(".conversation .icon-button")
                time.sleep(0.1)
                self.fits(name + "_menu", width)
                ActionChains(self.browser).send_keys(Keys.ESCAPE).send_keys(Keys.ESCAPE).perform()
                self.click("#settings-button")
                time.sleep(0.2)
                self.fits(name + "_settings", width)
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
