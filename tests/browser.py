"""A real browser for the tests."""

import base64
import json

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from servers import program, wait_for

DESKTOP, PHONE = (1440, 900), (390, 844)
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--disable-dev-shm-usage --hide-scrollbars --force-device-scale-factor=1""".split()


class Browser:
    """A headless Chromium with a profile of its own."""

    def __init__(self, profile):
        options = webdriver.ChromeOptions()
        options.binary_location = program("chromium")
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.page_load_strategy = "eager"  # a page with a stream never ends to load
        self.driver = webdriver.Chrome(options, Service(program("chromedriver")))
        self.driver.set_page_load_timeout(60)
        self.driver.set_script_timeout(30)

    def open(self, url, size=DESKTOP, scheme="light"):
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)

    def run(self, script):
        return self.driver.execute_script(script)

    def text(self, selector):
        return self.run(f"return document.querySelector({json.dumps(selector)})?.innerText || ''")

    def count(self, selector):
        return self.run(f"return document.querySelectorAll({json.dumps(selector)}).length")

    def pictures(self):
        """How many of the pictures were loaded."""
        return self.run(
            "return [...document.querySelectorAll('figure img')].filter(i => i.naturalWidth).length"
        )

    def shows(self, text):
        wait_for(lambda: text in self.text("body"), f"{text!r} on the page")

    def errors(self):
        """What the browser's console said since the last time."""
        return [line for line in self.driver.get_log("browser") if line["level"] != "DEBUG"]

    def asked(self):
        """What pages asked for since the last time, without data in the page itself and without
        the parts of the page that the browser shows first."""
        lines = self.driver.get_log("performance")
        events = [json.loads(line["message"])["message"] for line in lines]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls if not url.startswith(("data:", "chrome:"))]

    def leave(self):
        """End the page, and its requests with it."""
        self.driver.get("about:blank")

    def screenshot(self, path):
        """The whole page, beyond the window too."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = {"captureBeyondViewport": True, "clip": clip}
        data = self.driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
        path.write_bytes(base64.b64decode(data))

    def fits(self):
        """Whether nothing has to be scrolled sideways."""
        return self.run("return document.documentElement.scrollWidth <= window.innerWidth")
