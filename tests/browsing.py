"""A real browser for tests of pages: its start, its window, its patience."""

from __future__ import annotations

import shutil
import time

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,900"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--mute-audio", "--disable-default-apps"),
)
PATIENCE_S = 60


def start(profile, *flags):
    """Start Chromium with a profile folder; the test is skipped where Chromium, its driver or selenium is absent."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install selenium)")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    found.set_page_load_timeout(PATIENCE_S)
    return found


def look(browser, *, width, dark=False, height=900):
    """Set the size of the window, and what the system prefers."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": scheme})


def wait(holds, patience_s=PATIENCE_S):
    """Wait until something holds; fail when it does not."""
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)
