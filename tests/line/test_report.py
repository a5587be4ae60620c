"""The report page and the summary: complete, self-contained, accessible, safe with names from strangers."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import re
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from device_models.toml import to_toml
from hwloop.line import make_wires
from hwloop.mapping import decode, read_map
from hwloop.recipe import HardwareConfig, Recipe, load_recipe
from hwloop.report import (
    AdcHistogram,
    Choice,
    ChoicesPage,
    Column,
    ReportData,
    Summary,
    SummaryError,
    arrays,
    explore,
    read_summary,
    worst_voltage_loss,
)
from hwloop.report.choices import render_choices
from hwloop.report.explorer import share
from hwloop.report.page import render
from hwloop.report.side_by_side import render_side_by_side
from hwloop.report.summary import FIGURES, Spread
from hwloop.report.wording import engineering, power_of_ten
from hwloop.training import EpochRecord

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "use"}


class Page(HTMLParser):
    """Collects what the tests ask about, and insists that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def data(finished: Path) -> ReportData:
    summary = read_summary(finished / "summary.json")
    conductance_map = read_map(finished / "maps.h5")
    return ReportData(
        summary=summary,
        records=[
            EpochRecord("dense training", 1, 0.5, 0.9, 0.9),
            EpochRecord("retraining", 1, 0.1, 0.9, None),
        ],
        conductance_map=conductance_map,
        adc={"fc1": AdcHistogram([5, 3, 1, 0]), "fc2": AdcHistogram([4, 0])},
        voltage_loss=worst_voltage_loss(conductance_map, make_wires(Recipe().hardware)),
        explorer=explore(conductance_map, make_wires(Recipe().hardware)),
    )


@pytest.fixture(scope="module")
def text(finished: Path) -> str:
    return (finished / "report.html").read_text("utf-8")


def test_every_tag_is_closed_and_every_id_is_unique(text: str) -> None:
    page = Page(text)
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    targets = {a["href"] for a in page.having("a")} | {
        f"#{a['aria-labelledby']}" for a in page.having("section")
    }
    assert {str(target).removeprefix("#") for target in targets} <= set(ids)


def test_it_loads_nothing(text: str) -> None:
    page = Page(text)
    assert page.having("link") == page.having("iframe") == []
    assert page.having("script") == [{"type": "application/json", "id": "explorer-data"}, {}]
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"@import|url\((?!#)", text)


def test_pictures_are_described_and_headings_are_in_order(text: str) -> None:
    page = Page(text)
    assert all(image.get("alt") for image in page.having("img"))
    drawings = [svg for svg in page.having("svg") if "aria-label" in svg and "data-part" not in svg]
    assert len(drawings) == 5
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in drawings)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.having("main")) == len(page.having("nav")) == 1


def test_figures_take_their_colours_from_the_page(text: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    used = set(re.findall(r"var\((--\w+)\)", "".join(drawings)))
    defined = set(re.findall(r"(--\w+):", text[: text.index("</style>")]))
    assert used
    assert used <= defined
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_it_is_the_same_for_the_same_run(data: ReportData) -> None:
    assert render(data) == render(data)


def test_names_from_strangers_stay_text(data: ReportData) -> None:
    evil = '<script>alert("$x$")</script>'
    summary = data.summary
    layers = {evil: summary.layers["fc1"]}
    conductance_map = dataclasses.replace(
        data.conductance_map,
        card=data.conductance_map.card.model_copy(update={"title": evil}),
        layers={evil: data.conductance_map.layers["fc1"]},
    )
    hostile = dataclasses.replace(
        data,
        summary=summary.model_copy(update={"layers": layers, "data": evil, "network": f"m:{evil}"}),
        conductance_map=conductance_map,
        adc={evil: AdcHistogram([1, 2])},
        records=[EpochRecord(evil, 1, 0.5, 0.9, 0.9)],
        voltage_loss=dataclasses.replace(data.voltage_loss, layer=evil),
    )
    page = render(hostile)
    assert page.count("<script") == 2
    assert "alert(" not in re.sub(r"&lt;script&gt;alert|\\u003cscript\\u003ealert", "", page)
    assert page.count("&lt;script&gt;") >= 6
    Page(page)


def test_a_run_without_training_or_spice_says_so(data: ReportData) -> None:
    spice = data.summary.spice.model_copy(update={"status": "not run", "reason": "no ngspice", "arrays": []})
    page = render(
        dataclasses.replace(data, records=[], summary=data.summary.model_copy(update={"spice": spice}))
    )
    assert "Nothing was trained." in page
    assert "Not run." in page
    assert "no ngspice" in page
    assert "Passed." not in page


def test_voltage_is_lost_away_from_drivers_and_senses(data: ReportData) -> None:
    loss = data.voltage_loss.loss
    read_voltage = data.conductance_map.card.read_voltage.value
    used = loss[np.isfinite(loss)]
    assert used.size
    assert (used > -1e-12).all()
    assert (used < read_voltage).all()
    near, far = loss[:, :, 0], loss[:, :, ~np.isnan(loss).all(axis=(0, 1))][:, :, -1]
    assert np.nanmean(far[:, 0]) > np.nanmean(near[:, -1]) or np.isnan(near[:, -1]).all()


def test_a_summary_says_how_every_figure_was_obtained(data: ReportData) -> None:
    summary = data.summary
    assert set(summary.how) == set(FIGURES)
    assert not any("{" in how for how in summary.how.values())
    without = {name: how for name, how in summary.how.items() if name != "adc.bits_per_layer"}
    with pytest.raises(ValidationError, match=r"how\.adc\.bits_per_layer is missing"):
        Summary.model_validate({**summary.model_dump(), "how": without})


def test_the_documented_schema_is_the_one_in_use(data: ReportData) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "summary.md").read_text("utf-8")
    for section in Summary.model_fields:
        assert f"`{section}" in documented, section
    for section in ("accuracy", "compression", "mapping", "adc", "spice", "cost"):
        for name in type(getattr(data.summary, section)).model_fields:
            assert f"`{section}.{name}`" in documented, f"{section}.{name}"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text[:100], "summary.json"),
        (lambda text: text.replace('"seed"', '"sead"'), "seed"),
        (lambda text: re.sub(r'"dense": [\d.]+', '"dense": 1.5', text, count=1), "accuracy.dense"),
        (lambda text: text.replace('"hwloop-summary"', '"other"'), "format"),
    ],
)
def test_a_damaged_summary_is_refused(
    finished: Path, tmp_path: Path, change: Callable[[str], str], named: str
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(change((finished / "summary.json").read_text("utf-8")), "utf-8")
    with pytest.raises(SummaryError, match=re.escape(named)):
        read_summary(path)


def test_the_recipe_of_a_report_is_a_recipe(finished: Path, tmp_path: Path) -> None:
    recipe = read_summary(finished / "summary.json").recipe
    text = to_toml(recipe)
    path = tmp_path / "recipe.toml"
    path.write_text(text, "utf-8")
    assert load_recipe(path) == Recipe.model_validate(recipe)
    assert text in unescape((finished / "report.html").read_text("utf-8"))


def test_odd_layer_names_survive_toml() -> None:
    recipe = {"prune": {"keep": {"block.0.conv": {"rows": 3}, 'a "b"': {"rows": 4, "filters": None}}}}
    assert tomllib.loads(to_toml(recipe)) == {
        "prune": {"keep": {"block.0.conv": {"rows": 3}, 'a "b"': {"rows": 4}}}
    }


def test_spread_of_one_instance_has_no_deviation() -> None:
    assert Spread.of([0.5]).std is None
    spread = Spread.of([0.5, 0.7, 0.6])
    assert spread.mean == pytest.approx(0.6)
    assert spread.std == pytest.approx(0.1)
    assert (spread.min, spread.max) == (0.5, 0.7)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0123, "12.3\u202fmW"), (1.5, "1.5\u202fW"), (4.97e-7, "497\u202fnW"), (0.0, "0\u202ffW")],
)
def test_engineering_prefixes(value: float, shown: str) -> None:
    assert engineering(value, "W") == shown


def test_powers_of_ten() -> None:
    assert power_of_ten(3.14e-12) == "3.1·10⁻¹²"
    assert power_of_ten(0.0) == "0"
    assert power_of_ten(None) == "not solved"


def test_it_says_how_the_arrays_are_read(data: ReportData) -> None:
    plain = HardwareConfig()
    assert arrays.wires(plain) == "45nm wires at 1t1r pitch"
    assert arrays.inputs(plain) == "8-bit inputs, bit by bit"
    assert arrays.converters(plain) == "one ADC for each array"
    other = HardwareConfig(wire=2.5, dac_bits=6, bits_per_cycle=6, bit_lines_per_adc=8)
    assert arrays.wires(other) == "wires of 2.5 Ω a segment"
    assert arrays.inputs(other) == "6-bit inputs, whole in one cycle"
    assert arrays.inputs(HardwareConfig(bits_per_cycle=2)) == "8-bit inputs, 2 bits in a cycle"
    assert arrays.converters(other) == "one ADC for 8 bit lines"
    pair = "two arrays, one for each polarity"
    for copies, said in ((1, pair), (3, f"{pair}, 3 times"), ({"fc1": 4}, f"{pair}, 4 times in fc1")):
        assert arrays.arrays_of_a_tile(data.conductance_map, HardwareConfig(copies=copies)) == said
    shown = render(data)
    for said in (arrays.wires(plain), arrays.inputs(plain), pair):
        assert said in shown


def test_tiles_that_a_page_shows_are_spread_over_layers_within_its_bound() -> None:
    assert share({"a": 3, "b": 5}, 100) == {"a": [0, 1, 2], "b": [0, 1, 2, 3, 4]}
    chosen = share({"large": 1000, "small": 2, "middle": 40}, 30)
    assert [len(tiles) for tiles in chosen.values()] == [14, 2, 14]
    assert chosen["large"][0] == 0
    assert chosen["large"][-1] == 999
    assert sum(map(len, share({str(k): 9 for k in range(50)}, 20).values())) == 20


def test_the_explorer_tells_what_the_map_holds(data: ReportData) -> None:
    found = data.explorer
    layer = data.conductance_map.layers["fc1"]
    told = next(each for each in found["layers"] if each["name"] == "fc1")
    assert [tile[1] for tile in told["tiles"]] == layer.mask.flatten(1).sum(1).tolist()
    packed = told["cells"]["0"]
    plain = zlib.decompress(base64.b64decode(packed["data"]))
    size = found["rows"] * found["cols"]
    codes = np.frombuffer(plain[:size], "i1").reshape(found["rows"], found["cols"])
    assert (codes == decode(layer, data.conductance_map.card.levels)[0].numpy()).all()
    worst = data.voltage_loss
    shown = next(each for each in found["layers"] if each["name"] == worst.layer)["cells"][str(worst.tile)]
    read_voltage = data.conductance_map.card.read_voltage.value
    assert shown["loss"] == pytest.approx(np.nanmax(worst.loss) / read_voltage, abs=1e-6)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(shown["data"]))[size:], "u1").reshape(2, 16, 16)
    loss = (steps.astype(float) - 1) / 254 * shown["loss"]
    there = np.isfinite(worst.loss)
    assert ((steps > 0) == there).all()
    assert np.abs(loss[there] - worst.loss[there] / read_voltage).max() < shown["loss"] / 254


def test_two_runs_are_put_side_by_side(finished: Path, data: ReportData) -> None:
    summary = data.summary
    recipe = {**summary.recipe, "seed": 2, "hardware": {**summary.recipe["hardware"], "rows": 32}}
    after = Spread.of([0.5, 0.6])
    other = summary.model_copy(
        update={
            "recipe": recipe,
            "accuracy": summary.accuracy.model_copy(update={"hardware_after": after}),
        }
    )
    page = render_side_by_side(("first <b>", "second"), (summary, other))
    Page(page)
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    assert "hardware.rows" in text
    assert "hardware.cols" not in text
    points = 100 * (after.mean - summary.accuracy.hardware_after.mean)
    assert f"{points:+.2f} points" in text
    assert "first &lt;b&gt;" in page


def test_choices_that_failed_are_in_the_table_and_not_in_the_figure() -> None:
    good = Choice({"rows": "16"}, [0.9, 0.92], {"area_mm2": 1.5}, best=True)
    bad = Choice({"rows": "<x>"}, [], {}, error="no such hardware")
    page = ChoicesPage(
        "Designs", "Two.", [good, bad], [Column("area_mm2", "area, mm²")], ["area_mm2"], "instances",
        "accuracy and area", "hwloop sweep", "seed = 1",
    )  # fmt: skip
    text = render_choices(page)
    Page(text)
    assert "no such hardware" in text
    assert "&lt;x&gt;" in text
    assert text.count("Accuracy of 1 choices") == 1
    assert "All of them failed" in render_choices(dataclasses.replace(page, choices=[bad]))
