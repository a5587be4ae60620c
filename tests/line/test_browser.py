"""Pages in a real browser: nothing is loaded, nothing is wrong, everything is reachable and readable."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from device_models.memristor import program
from hwloop.line import make_wires
from hwloop.mapping import read_map
from hwloop.recipe import Recipe
from hwloop.report import (
    AdcHistogram,
    Choice,
    ChoicesPage,
    Column,
    ReportData,
    explore,
    read_summary,
    worst_voltage_loss,
    write_choices,
    write_report,
    write_side_by_side,
)

from .maps import map_of, random_layer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MOST_BYTES = 4_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a small run, of a run of 1,024 tiles, of two runs, and of a sweep."""
    folder = tmp_path_factory.mktemp("pages")
    summary = read_summary(finished / "summary.json")
    levels = read_map(finished / "maps.h5").card.levels
    layer = random_layer("fc", matrix_shape=(32 * 63, 32 * 63), array_shape=(64, 64), levels=levels)
    wires = make_wires(Recipe().hardware)
    large = map_of(layer, card=read_map(finished / "maps.h5").card)
    actual = program(large.target("fc"), large.card, 1, 0, "fc").float()
    large = replace(large, layers={"fc": replace(layer, actual=actual)})
    told = summary.layers["fc1"].model_copy(update={"tiles_kept": layer.tiles})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwloop.report.explorer.SOLVED", 200)  # all of them take a minute on a busy machine
        explored = explore(large, wires)
    data = ReportData(
        summary.model_copy(update={"layers": {"fc": told}}), [], large, {"fc": AdcHistogram([3, 1])},
        worst_voltage_loss(large, wires), explored,
    )  # fmt: skip
    write_report(data, folder / "large.html")
    write_side_by_side(("first", "second"), (summary, summary), folder / "side.html")
    choices = [
        Choice({"rows": str(rows)}, [0.9 - 0.01 * rows, 0.9], {"area_mm2": rows / 7}, best=rows == 1)
        for rows in range(1, 12)
    ]
    area = Column("area_mm2", "area, mm²")
    write_choices(
        ChoicesPage(
            "Designs", "All.", choices, [area], ["area_mm2"], "instances", "area", "hwloop", "seed = 1"
        ),
        folder / "sweep.html",
    )
    found = {name: folder / f"{name}.html" for name in ("large", "side", "sweep")}
    return {"small": finished / "report.html", **found}


class Visit:
    """A page that is open, and what it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1180, "height": 900}, **settings)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def loaded(self) -> list[str]:
        return [url for url in self.requests[1:] if not url.startswith("data:")]


@pytest.mark.parametrize("name", ["small", "large", "side", "sweep"])
def test_a_page_asks_for_nothing_and_complains_of_nothing(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    visit = Visit(browser, pages[name])
    visit.page.wait_for_load_state()
    assert visit.loaded() == []
    assert visit.complaints == []
    assert pages[name].stat().st_size < MOST_BYTES
    # What is wide scrolls in a box of its own; the page itself never does.
    visit.page.set_viewport_size({"width": 360, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.context.close()


@pytest.mark.parametrize("name", ["small", "large"])
def test_every_tile_can_be_looked_at(browser: Any, pages: dict[str, Path], name: str) -> None:
    visit = Visit(browser, pages[name])
    page = visit.page
    page.wait_for_selector("#explorer canvas")
    count = {"small": 3, "large": 1}[name]
    assert page.locator("[data-part=layer] option").count() == count
    if name == "large":
        assert page.locator("[data-part=overview] rect").count() == 1024
        page.locator("[data-part=overview] rect").nth(1023).dispatch_event("click")
        assert "tile 1023" in page.text_content("[data-part=facts]")
    page.check("input[value=loss]")
    assert "voltage lost" in page.get_attribute("[data-part=overview]", "aria-label")
    canvas = page.locator("#explorer canvas").first
    canvas.wait_for()
    canvas.focus()
    canvas.press("ArrowDown")
    canvas.press("ArrowRight")
    assert page.text_content("[data-part=readout]").startswith("word line 1, bit line 1: ")
    assert visit.complaints == []
    visit.context.close()


def test_a_column_sorts_its_table(browser: Any, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["sweep"])
    accuracy = visit.page.locator("table.sortable th button", has_text="accuracy")
    accuracy.click()
    shown = visit.page.locator("table.sortable tbody tr td:nth-child(2)").all_text_contents()
    assert shown == sorted(shown, key=float)
    accuracy.click()
    shown = visit.page.locator("table.sortable tbody tr td:nth-child(2)").all_text_contents()
    assert shown == sorted(shown, key=float, reverse=True)
    assert visit.page.locator("th[aria-sort=descending]").count() == 1
    visit.context.close()


def test_without_scripts_the_page_still_tells(browser: Any, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["small"], java_script_enabled=False)
    assert visit.page.locator("#explorer").is_hidden()
    assert visit.page.get_by_text("This part needs JavaScript").is_visible()
    assert visit.page.locator("ul.tiles img").first.is_visible()
    assert visit.page.locator("figure svg").count() == 5
    visit.context.close()


@pytest.mark.parametrize("name", ["small", "sweep"])
def test_the_tab_key_reaches_every_control(browser: Any, pages: dict[str, Path], name: str) -> None:
    visit = Visit(browser, pages[name])
    page = visit.page
    controls = "document.querySelectorAll('a, button, select, summary, [tabindex]')"
    wanted = page.evaluate(
        f"[...{controls}].filter(e => e.checkVisibility()).map((e, k) => (e.dataset.order = k))"
    )
    reached = set()
    for _ in range(2 * len(wanted) + 20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.order ?? ''"))
    assert {str(number) for number in wanted} <= reached
    visit.context.close()


@pytest.mark.parametrize("name", ["small", "side", "sweep"])
def test_it_prints(browser: Any, pages: dict[str, Path], name: str) -> None:
    visit = Visit(browser, pages[name], color_scheme="dark")
    visit.page.emulate_media(media="print", color_scheme="dark")
    background, ink = visit.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (background, ink) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")
    assert visit.page.locator("nav").is_hidden()
    assert visit.page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["small", "large", "side", "sweep"])
def test_axe_finds_no_fault(browser: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    # The page's own policy would keep axe-core out.
    visit = Visit(browser, pages[name], color_scheme=scheme, bypass_csp=True)
    visit.page.add_script_tag(content=(files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    found = visit.page.evaluate("axe.run()")
    assert found["passes"]
    told = [(fault["id"], fault["impact"], fault["nodes"][0]["html"]) for fault in found["violations"]]
    assert told == []
    visit.context.close()
