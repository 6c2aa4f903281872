"""What a browser finds wrong with a page: errors, requests, missing images, overflow, text outside of its drawing.

A fault is a line that begins with its kind.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

_FAULTS_IN_PAGE = """
const faults = [];
const visible = (box) => box.width > 0 && box.height > 0;
const words = (element) => element.textContent.trim().slice(0, 40);
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth + 1)
  faults.push(`overflow: the page is ${page.scrollWidth} px wide in a window of ${page.clientWidth} px`);
for (const image of document.images)
  if (!image.complete || image.naturalWidth === 0) faults.push(`image: ${image.getAttribute("src")} is missing`);
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  if (!visible(frame)) continue;
  if (frame.right > page.clientWidth + 1) faults.push("drawing: wider than the page");
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect();
    if (!visible(box)) continue;
    const aside = Math.max(frame.left - box.left, box.right - frame.right);
    const out = Math.max(aside, frame.top - box.top, box.bottom - frame.bottom).toFixed(0);
    if (out > 2) faults.push(`text: "${words(text)}" is ${out} px outside of ${svg.getAttribute("aria-label")}`);
  }
}
const headings = [...document.querySelectorAll("h1, h2, h3, h4")].map((h) => [h, h.getBoundingClientRect()]);
const shown = headings.filter(([_, box]) => visible(box));
shown.forEach(([one, a], place) => {
  for (const [other, b] of shown.slice(place + 1)) {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 1) faults.push(`headings: "${words(one)}" lies over "${words(other)}"`);
  }
});
return faults;
"""


@contextmanager
def browser():
    """A Chromium of this machine without a window; the test skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="looking at pages needs selenium")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("looking at pages needs the programs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()


def loading_faults(driver, path: Path) -> list[str]:
    """Open a page; errors of its scripts, and whatever it asks the network for."""
    for log in ("browser", "performance"):
        driver.get_log(log)  # forgets what an earlier page said
    driver.get(path.as_uri())
    found = [f"console: {entry['message']}" for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            if address != path.as_uri() and not address.startswith("data:"):
                found.append(f"request: {address}")
        elif message["method"] == "Network.loadingFailed":
            found.append(f"request: failed, {message['params']['errorText']}")
    return found


def visible_faults(driver, *, width: int, theme: str = "light", medium: str = "screen") -> list[str]:
    """What is wrong with the opened page to the eye, at a width, in a theme and a medium."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})
    return driver.execute_script(_FAULTS_IN_PAGE)
