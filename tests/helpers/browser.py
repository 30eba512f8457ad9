"""A headless Chromium that records each request and each line of its console."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DRIVER, CHROMIUM = "/usr/bin/chromedriver", "/usr/bin/chromium"
INSTALL = "no Chromium: apt-get install chromium chromium-driver"
# Chromium's own documents, such as the new tab page that it opens before ours.
_INTERNAL = ("chrome:", "chrome-extension:", "chrome-search:", "chrome-untrusted:", "devtools:")
_OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]


def require_chromium() -> None:
    """Skip the test without Chromium; fail instead if REQUIRE_CHROMIUM is set."""
    if not (Path(DRIVER).exists() and shutil.which(CHROMIUM)):
        if os.environ.get("REQUIRE_CHROMIUM") == "1":
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)


@contextmanager
def chromium(profile: Path) -> Iterator["Browser"]:
    """Yield a browser with the new profile folder `profile`, and close it at the end."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    def __init__(self, driver):
        self.driver = driver

    def command(self, name: str, **arguments) -> dict:
        return self.driver.execute_cdp_cmd(name, arguments)

    def open(self, page: Path, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Show the file `page` in a viewport of `width` CSS pixels; wait until charts are drawn."""
        self.size(width, height)
        self.scheme(scheme)
        self.logs()  # drop earlier lines
        self.driver.get(page.as_uri())
        self.wait("!document.querySelector('[data-chart]:not([data-drawn])')")

    def size(self, width: int, height: int = 900) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def scheme(self, scheme: str) -> None:
        self.command(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def script(self, text: str, *arguments):
        return self.driver.execute_script(f"return {text}", *arguments)

    def wait(self, condition: str, seconds: float = 30) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, 0.1).until(lambda _: self.script(condition), condition)

    def logs(self) -> tuple[list[str], list[str]]:
        """Return the console's errors and the requested addresses since the last call.

        Chromium's own documents are left out. A request of our page for one of Chromium's addresses
        is not.
        """
        severe = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        sent = [
            event["params"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        addresses = [
            params["request"]["url"]
            for params in sent
            if not params["documentURL"].startswith(_INTERNAL)
        ]
        console = [message for message in severe if not message.startswith(_INTERNAL)]
        return console, [
            address for address in addresses if not address.startswith(("data:", "blob:"))
        ]

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def hover(self, element, right: int = 0, down: int = 0) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element_with_offset(element, right, down).perform()

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG, including the part below the window."""
        import base64

        picture = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))
