"""The page in a real browser: Debian's chromium, driven through its own chromedriver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ranvier.profiling import page
from ranvier.profiling.measure import ArtifactProfile
from tests.profiling.made_up import profile

if TYPE_CHECKING:
    from selenium.webdriver.remote.webelement import WebElement

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--no-first-run", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
HOSTILE = "</script><img src=x onerror='document.title=\"broken\"'><b>&amp;"

pytestmark = [
    pytest.mark.needs("selenium"),
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason="needs a browser: apt-get install chromium chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield made
    made.quit()


class Browser:
    """A page that was opened, and what a user does with it."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.path = path

    def open(self, shown: ArtifactProfile, width: int = 1280, scheme: str = "light") -> None:
        """Show the page of a profile in a window of `width` pixels, "light" or "dark"."""
        self.path.write_text(page(shown), encoding="utf-8")
        window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(self.path.as_uri())

    def all(self, selector: str) -> list[WebElement]:
        """Elements by CSS selector."""
        found: list[WebElement] = self.driver.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> WebElement:
        """The first of them."""
        return self.all(selector)[0]

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script."""
        return self.driver.execute_script(script, *arguments)

    def hover(self, selector: str) -> None:
        """Move the pointer onto an element."""
        from selenium.webdriver import ActionChains

        target = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", target)
        ActionChains(self.driver).move_to_element(target).perform()

    def press(self, selector: str, *keys: str) -> None:
        """Press keys with an element focused."""
        self.run("arguments[0].focus()", self.one(selector))
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def view(self) -> tuple[float, float]:
        """The microseconds that the timeline shows."""
        shown = self.one("#timeline")
        low, high = (shown.get_attribute(f"data-{name}") for name in ("low", "high"))
        return float(str(low)), float(str(high))

    def column(self, heading: str) -> list[str]:
        """The cells of a column of the kernel table."""
        headings = [cell.text for cell in self.all("#kernels th")]
        at = headings.index(heading) + 1
        return [cell.text for cell in self.all(f"#kernels td:nth-child({at})")]

    def problems(self) -> list[str]:
        """What the console says."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def browser(driver: Any, tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(driver, tmp_path / "profile.html")
    opened.open(profile(6))
    yield opened
    assert opened.problems() == []


def test_every_kernel_is_a_dot_a_row_and_a_bar_on_each_thread(browser: Browser) -> None:
    assert len(browser.all("#roofline .dot")) == 6
    assert len(browser.all("#kernels tbody tr")) == 6
    assert len(browser.all("#timeline .bar:not(.wait)")) == 12
    assert len(browser.all("#timeline .bar.wait")) == 6  # thread 1 alone waits
    assert len(browser.all("#roofline .dot.idle")) == 1  # the one without operations
    assert len(browser.all("#roofline line.roof")) == 5  # two precisions, three levels
    assert len(browser.all("#sources tbody tr")) == 2


def test_dots_lie_where_their_rates_say(browser: Browser) -> None:
    """300 GFLOP/s at 50 operations per byte: right of the ridges, below the peak of 470."""
    line = browser.one("#roofline line.roof:not(.bandwidth):last-of-type")
    dot = browser.one("#roofline .dot:not(.idle)")
    assert float(str(dot.get_attribute("cy"))) > float(str(line.get_attribute("y1")))
    assert float(str(dot.get_attribute("cx"))) > float(str(line.get_attribute("x1")))


def test_the_head_names_the_run(browser: Browser) -> None:
    assert browser.one("h1").text == "net"
    for part in ("bf16", "x86-64-v4-bf16", "A CPU", "2 threads", "batch=2"):
        assert part in browser.one("#setting").text
    assert "of the bf16 peak" in browser.one("#facts").text


def test_the_parts_of_the_time_sum_to_all_of_it(browser: Browser) -> None:
    """Six kernels of 10 µs wait 1; five have 6 at the compute roof, one as much at memory's."""
    parts = [line.text.split(" – ")[0] for line in browser.all("#parts li")]
    assert parts == ["50.0 % compute", "10.0 % memory", "10.0 % imbalance", "30.0 % other"]


@pytest.mark.parametrize("selector", ["#roofline .dot", "#timeline .bar", "#timeline .bar.wait"])
def test_hovering_shows_the_figures(browser: Browser, selector: str) -> None:
    assert not browser.one("#tooltip").is_displayed()
    browser.hover(selector)
    assert browser.one("#tooltip").is_displayed()
    assert "300.0 GFLOP/s" in browser.one("#tooltip").text
    browser.hover("h1")
    assert not browser.one("#tooltip").is_displayed()


@pytest.mark.parametrize("selector", [".dot[data-index='2']", ".bar[data-index='2']"])
def test_clicking_marks_the_kernel_everywhere(browser: Browser, selector: str) -> None:
    browser.hover(selector)
    browser.one(selector).click()
    assert [row.get_attribute("aria-selected") for row in browser.all("#kernels tr.chosen")] == [
        "true"
    ]
    assert len(browser.all(".dot.chosen")) == 1
    assert {bar.get_attribute("data-index") for bar in browser.all(".bar.chosen")} == {"2"}
    assert browser.one("#selected").text.startswith("value_2")
    browser.press("h1 ~ p, body", "\ue00c")  # Escape
    assert browser.all(".chosen") == []


def test_a_line_of_the_model_marks_all_its_kernels(browser: Browser) -> None:
    browser.one("#sources tbody tr").click()
    assert len(browser.all(".dot.chosen")) == 3
    assert browser.one("#selected").text == "3 kernel calls: 30.0 µs"


def test_a_heading_sorts_and_turns_round(browser: Browser) -> None:
    heading = browser.one("#kernels th:first-child button")
    heading.click()
    assert browser.column("#") == ["5", "4", "3", "2", "1", "0"]
    assert browser.one("#kernels th:first-child").get_attribute("aria-sort") == "descending"
    heading.click()
    assert browser.column("#") == ["0", "1", "2", "3", "4", "5"]
    assert len(browser.all("#kernels th[aria-sort]")) == 1


def test_the_filter_keeps_matching_rows(browser: Browser) -> None:
    browser.one("#filter").send_keys("VALUE_3")
    assert browser.column("value") == ["value_3"]


def test_the_wheel_zooms_at_the_pointer_and_dragging_moves(browser: Browser) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    assert browser.view() == (0, 60)
    browser.hover("#timeline .bar[data-index='3']")
    origin = ScrollOrigin.from_element(browser.one("#timeline .bar[data-index='3']"))
    ActionChains(browser.driver).scroll_from_origin(origin, 0, -120).perform()
    low, high = browser.view()
    assert low > 0
    assert low < 35 < high < 60
    ActionChains(browser.driver).drag_and_drop_by_offset(
        browser.one("#timeline .bar[data-index='3']"), 80, 0
    ).perform()
    moved, end = browser.view()
    assert moved < low
    assert end - moved == pytest.approx(high - low)
    assert browser.all(".chosen") == []  # a drag is no click
    browser.one("#zoom-all").click()
    assert browser.view() == (0, 60)


def test_keys_zoom_and_move_the_timeline(browser: Browser) -> None:
    browser.press("#timeline", "+", "+")
    low, high = browser.view()
    assert (low + high) / 2 == pytest.approx(30)
    assert high - low < 40
    browser.press("#timeline", "\ue012")  # left arrow
    assert browser.view()[0] < low
    browser.press("#timeline", "0")
    assert browser.view() == (0, 60)


def test_keys_reach_dots_and_rows(browser: Browser) -> None:
    browser.press(".dot[tabindex='0']", "\ue014", "\ue007")  # right arrow, Enter
    assert len(browser.all(".dot.chosen")) == 1
    assert browser.one("#tooltip").is_displayed()
    browser.press("#kernels tr[tabindex='0']", "\ue015", "\ue015", " ")  # down twice, space
    assert browser.one("#kernels tbody tr:nth-child(3)").get_attribute("aria-selected") == "true"


def test_hostile_names_are_text(browser: Browser) -> None:
    kernels = profile(6).kernels
    bad = replace(kernels[0], label=HOSTILE, source=HOSTILE, operators=(HOSTILE,), kernel=HOSTILE)
    browser.open(replace(profile(6, name=HOSTILE), kernels=(bad, *kernels[1:])))
    assert browser.one("h1").text == HOSTILE
    assert HOSTILE in browser.column("value")
    browser.hover(".dot[data-index='0']")
    assert HOSTILE in browser.one("#tooltip").text
    browser.one(".dot[data-index='0']").click()
    assert browser.all("img") == []
    assert all(bold.text.endswith("%") for bold in browser.all("b"))  # the page's own
    assert browser.driver.title.startswith(HOSTILE)


def test_unknown_figures_are_dashes(browser: Browser) -> None:
    shown = profile(3, waits=False)
    kernels = tuple(replace(k, limit=None, share_of_roof=None) for k in shown.kernels)
    blind = replace(shown.roofline, peaks={})
    browser.open(replace(shown, kernels=kernels, roofline=blind))
    assert browser.column("balance") == ["–"] * 3
    assert browser.column("limit") == ["unknown"] * 3
    assert len(browser.all("#roofline .dot")) == 3
    assert "llvmlite" in browser.one("#notes").text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_in_both_schemes(browser: Browser, width: int, scheme: str) -> None:
    browser.open(profile(60), width, scheme)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    for plot in browser.all(".plot > svg"):
        assert plot.size["width"] <= width
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    picture = browser.driver.get_screenshot_as_png()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
