"""Answers that try to run scripts, fetch things or take over the page."""
import time

import fake_server
from page_case import Scripted
from selenium.webdriver.common.action_chains import ActionChains


class Hostile(Scripted):
    def test_hostile_answer_is_shown_harmlessly(self):
        self.network("")
        self.ask("hostile")
        self.wait(lambda: self.all(".prose .katex"), "formulas are rendered")
        for element in self.all(".prose *")[:400]:
            if element.is_displayed():
                ActionChains(self.browser).move_to_element(element).perform() if element.tag_name in ("a", "code") else None
        self.wait(lambda: True, "a moment")
        time.sleep(0.5)
        self.assertIsNone(self.run_script("return window.hacked ?? null"))
        origin = self.base.rstrip("/")
        requested = [params["request"]["url"] for params in self.network("Network.requestWillBeSent")]
        self.assertEqual([url for url in requested if not url.startswith((origin + "/", "data:", "chrome"))], [])
        allowed = {"A", "BLOCKQUOTE", "BR", "CODE", "DEL", "DIV", "EM", "H1", "H2", "H3", "HR", "LI", "OL", "P", "PRE", "SPAN", "STRONG", "SUB", "SUP",
                   "TABLE", "TBODY", "TD", "TH", "THEAD", "TR", "UL", "BUTTON", "svg", "use", "path"}
        tags = set(self.run_script("return [...document.querySelectorAll('.prose *')].filter(e => !e.closest('.katex')).map(e => e.tagName)"))
        self.assertLessEqual(tags, allowed)
        self.assertEqual(self.run_script("return [...document.querySelectorAll('.prose [id], .prose [name], .prose [srcdoc], .prose [src], .prose [onclick]')].length"), 0)
        self.assertEqual(self.run_script("""return [...document.querySelectorAll('.prose *')].flatMap(e => [...e.attributes]).map(a => a.name)
            .filter(name => /^on|^action$|^form/.test(name))"""), [])
        links = self.run_script("return [...document.querySelectorAll('.prose a[href]')].map(a => [a.getAttribute('href'), a.rel, a.target])")
        self.assertTrue(links)
        for href, rel, target in links:
            self.assertRegex(href, r"^(https?://|mailto:)")
            self.assertEqual((rel, target), ("noopener noreferrer", "_blank"))
        self.assertIn("<script>window.hacked=1</script>", self.answers()[0])
        self.assertEqual([(e.text, e.get_attribute("href")) for e in self.all(".prose .image-link[href]")], [("图", "http://127.0.0.1:9/evil.png?q=1")])
        self.assertIn("bomb", self.text(".prose .math-error"))
        self.assertTrue(self.find("#input").is_displayed())
        self.screenshot("hostile")

    def test_sanitizer_alone_holds(self):
        """What comes out of the sanitizer when raw HTML gets to it, as if Markdown had let it through."""
        attacks = [fake_server.HOSTILE, '<img src=x><a href="https://a.b/" id=x name=y onclick=1 style="color:red" class="app hljs-tag">x</a>',
                   '<a href=" javascript:1">x</a><a href="//a.b/c">x</a><a href="vbscript:1">x</a><a href="/v1/models">x</a>',
                   "<table><tr><td background=x align=center start=3>x</td></tr></table><input autofocus onfocus=1><base href=//a.b><meta http-equiv=refresh>",
                   "<form><math><mtext></form><form><mglyph><svg><mtext><style><path id='</style><img onerror=1 src>'>"]
        tags, attributes, links = self.browser.execute_async_script("""
            const [attacks, done] = arguments;
            import('/assets/markdown.js').then(({sanitize}) => {
              const elements = attacks.flatMap(text => [...sanitize(text).querySelectorAll('*')]);
              const attributes = elements.flatMap(element => [...element.attributes]);
              done([elements.map(element => element.tagName), attributes.filter(a => a.name !== 'href').map(a => `${a.name}=${a.value}`),
                    attributes.filter(a => a.name === 'href').map(a => a.value)]);
            }, error => done([[String(error)], [], []]));""", attacks)
        self.assertLessEqual(set(tags), {"A", "TABLE", "TBODY", "TR", "TD", "DIV", "CODE", "SPAN", "P", "BR"})
        self.assertLessEqual(set(attributes), {"target=_blank", "rel=noopener noreferrer", "class=", "class=hljs-tag", "align=center", "start=3"})
        self.assertTrue(links)
        for link in links:
            self.assertRegex(link, r"^https?://")
        self.console()  # the policy names the handlers that were in the attacks

    def test_policy_stands_when_the_sanitizer_fails(self):
        """Even elements put past the sanitizer run nothing: the policy's own work, seen by its refusals."""
        refused = self.browser.execute_async_script("""
            const done = arguments[0], seen = [];
            document.addEventListener('securitypolicyviolation', event => seen.push(event.effectiveDirective));
            const image = document.createElement('img'); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image);
            const frame = document.createElement('iframe'); frame.src = 'http://127.0.0.1:9/'; document.body.append(frame);
            const button = document.createElement('button'); try { button.setAttribute('onclick', 'window.hacked = 1'); } catch { seen.push('TypeError'); }
            try { document.createElement('div').innerHTML = '<b>x</b>'; } catch { seen.push('TypeError'); }
            fetch('http://127.0.0.1:9/').catch(() => {});
            setTimeout(() => { image.remove(); frame.remove(); done(seen); }, 500);""")
        self.assertIsNone(self.run_script("return window.hacked ?? null"))
        for directive in ("img-src", "frame-src", "connect-src", "require-trusted-types-for", "TypeError"):
            self.assertIn(directive, refused)
        self.console()
