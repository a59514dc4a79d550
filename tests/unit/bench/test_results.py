"""What is kept of a measure, and what is made of it: medians, ratios of neighbours, bars, shares, tables, the plot, the document."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.bars import BARS, Bar, judged
from bench.comparing import Spread, figures, ratio
from bench.contenders import CONTENDERS, ENVIRONMENTS
from bench.document import BEGIN, END, with_generated
from bench.measures import MEASURES
from bench.plot import plot
from bench.results import Entry, Results, Run
from bench.shares import WORK, least_seconds, shares
from bench.tables import number, report, seconds, times


def entry(
    measure: str, *runs: tuple[int, int, str, float], missing: dict[str, str] | None = None, **more: float
) -> Entry:
    """A measure whose turns took so many seconds."""
    return Entry(
        measure=measure,
        date="2026-01-02T03:04+00:00",
        machine={"processor": "P", "cores": 2, "memory": 24.0, "instructions": ["avx2"], "system": "Linux x86_64"},
        load=0.1,
        setting={"threads": 2, "size": int(measure[-3:]) if measure[-3:].isdigit() else 512},
        versions={"sfumato": {"sfumato": "1", "torch": "2"}, "diffusers": {"diffusers": "3"}},
        runs=[
            Run(round=number, pair=pair, contender=who, figures={"seconds": took, **more})
            for number, pair, who, took in runs
        ],
        missing=missing or {},
    )


STEP = entry(
    "unet-512",
    (0, 0, "sfumato", 6.0), (0, 0, "diffusers", 10.0), (0, 1, "sfumato", 9.0), (0, 1, "openvino", 9.0),
    (1, 0, "diffusers", 30.0), (1, 0, "sfumato", 21.0), (1, 1, "openvino", 10.0), (1, 1, "sfumato", 9.5),
    missing={"sdcpp": "it did not build", "sfumato-int8": "there is none"},
)  # fmt: skip


def bar(**changes: Any) -> Bar:
    return Bar(**{"title": "step", "measure": "unet-512", "peer": "diffusers", "most": 0.75, **changes})


def test_a_ratio_is_of_runs_side_by_side_and_not_of_medians():
    # One round was three times as slow as the other, for both alike.
    assert ratio(STEP, "sfumato", "diffusers", "seconds") == Spread(pytest.approx(0.65), 0.6, 0.7, 2)
    assert ratio(STEP, "sfumato", "openvino", "seconds") == Spread(pytest.approx(0.975), 0.95, 1.0, 2)


def test_a_median_is_over_all_turns():
    assert figures(STEP, "sfumato", "seconds") == Spread(9.25, 6.0, 21.0, 4)


def test_there_is_no_ratio_of_runs_that_were_not_side_by_side():
    lonely = entry("unet-512", (0, 0, "sfumato", 1.0), (1, 0, "diffusers", 2.0))
    assert ratio(lonely, "sfumato", "diffusers", "seconds") is None
    assert ratio(STEP, "sfumato", "sdcpp", "seconds") is None
    assert ratio(None, "sfumato", "diffusers", "seconds") is figures(None, "sfumato", "seconds") is None


def test_a_bar_is_met_missed_or_not_measured():
    entries = {"unet-512": STEP}
    assert judged(bar(), entries).verdict == "met"
    assert judged(bar(most=0.64), entries).verdict == "missed"
    assert judged(bar(most=9.0, peer=None), entries).verdict == "missed"
    assert judged(bar(most=9.25, peer=None), entries).verdict == "met"


def test_what_is_not_measured_says_why():
    entries = {"unet-512": STEP}
    assert judged(bar(peer="sdcpp"), entries).why == "stable-diffusion.cpp f16: it did not build"
    assert judged(bar(), {}).why == "not run yet"
    assert judged(bar(measure=None, why="no GPU"), entries).why == "no GPU"
    assert judged(bar(figure="rss"), entries).why == "there is no figure 'rss'"


def test_two_digits_of_a_ratio_count():
    entries = {"unet-512": entry("unet-512", (0, 0, "sfumato", 0.7549), (0, 0, "diffusers", 1.0))}
    assert judged(bar(), entries).verdict == "met"
    entries = {"unet-512": entry("unet-512", (0, 0, "sfumato", 0.7551), (0, 0, "diffusers", 1.0))}
    assert judged(bar(), entries).verdict == "missed"


def test_every_bar_and_count_belongs_to_a_measure_that_its_contenders_take_part_in():
    by_name = {one.name: one for one in MEASURES}
    for one in BARS:
        if one.measure is not None:
            pairs = by_name[one.measure].pairs
            assert any(pair.ours == one.ours and (one.peer is None or pair.peer == one.peer) for pair in pairs), one
    assert WORK.keys() <= by_name.keys()
    assert {who for one in MEASURES for who in one.contenders} <= CONTENDERS.keys()
    assert {one.environment for one in CONTENDERS.values()} <= ENVIRONMENTS.keys()


def test_least_seconds_are_those_of_each_kind_at_its_ceiling():
    rates = {"fp32 convolution": 100.0, "fp32 matmul": 200.0}
    assert least_seconds({"convolution": 300.0, "linear": 100.0, "attention": 60.0}, rates, "fp32") == pytest.approx(
        3.8
    )
    assert least_seconds({"convolution": 300.0, "linear": 100.0, "attention": 60.0}, rates, "int8") is None


def test_shares_are_of_the_ceilings_of_the_same_precision():
    work = Run(
        round=0,
        pair=0,
        contender="work",
        figures={"step 512": {"convolution": 880.0, "linear": 450.0, "attention": 250.0}},
    )
    ceiling = Run(
        round=0, pair=0, contender="ceilings",
        figures={"fp32 matmul": 200.0, "fp32 convolution": 160.0, "int8 matmul": 800.0, "int8 convolution": 500.0, "wall": 9.0, "all": {}},
    )  # fmt: skip
    entries = {"unet-512": STEP, "work": entry("work"), "ceilings": entry("ceilings")}
    entries["work"].runs, entries["ceilings"].runs = [work], [ceiling]
    found = {one.contender: one for one in shares(entries)}
    assert found["sfumato"].share == pytest.approx((880 / 160 + 700 / 200) / 9.25)
    assert found["sfumato"].gflops == pytest.approx(1580 / 9.25)
    of_quick = entry("unet-512", (0, 0, "sfumato", 1.0))
    of_quick.setting["size"] = 128
    assert shares({**entries, "unet-512": of_quick}) == []


def test_results_are_kept_by_measure_and_read_again(tmp_path: Path):
    results = Results(tmp_path / "inner" / "results.json")
    results.put(STEP)
    results.put(entry("unet-256", (0, 0, "sfumato", 1.0)))
    results.put(entry("unet-256", (0, 0, "sfumato", 2.0), rss=100.0))
    again = Results(results.path)
    assert again.entries == results.entries
    assert again.entries["unet-256"].runs[0].figures == {"seconds": 2.0, "rss": 100.0}
    assert list(tmp_path.rglob("*.tmp")) == []


def test_results_of_another_format_are_refused(tmp_path: Path):
    (tmp_path / "results.json").write_text('{"format": 0, "measures": {}}')
    with pytest.raises(ValueError, match="another format"):
        Results(tmp_path / "results.json")


def test_the_report_has_every_bar_and_says_what_is_missing():
    text = report({"unet-512": STEP}, "images/plot.svg")
    for one in BARS:
        assert f"| {one.title} | {one.bar} |" in text
    assert "| float32 CFG step, 512² | ≤ 0.75 × diffusers | 0.65 (0.60–0.70) | **met** |" in text
    assert "| float32 CFG step, 512² | ≤ 0.95 × OpenVINO FP32 | 0.97 (0.95–1.00) | **missed** |" in text
    assert "- stable-diffusion.cpp f16: it did not build (unet-512)" in text
    assert "sfumato 1, torch 2; diffusers 3" in text
    assert "Others were" not in text
    assert "![Seconds of each peer, by Sfumato's](images/plot.svg)" in text
    assert "### Bars" not in report({"unet-512": STEP}, judge=False)
    assert report({}) == "Nothing was measured yet."


def test_a_load_is_told_with_the_small_step_after_it():
    load = entry("load", (0, 0, "sfumato", 2.0), (0, 0, "diffusers", 8.0), **{"to a first small step": 4.0})
    text = report({"load": load})
    assert "from the 2.1 GB file | diffusers | 8 | 0.25 |" in text
    assert "and the end of a step of 64² | diffusers | 4 | 1.00 |" in text


def test_a_busy_machine_is_said():
    busy = entry("unet-512", (0, 0, "sfumato", 1.0))
    busy.load = 3.5
    assert "Others were at work when these began (cores): unet-512 (3.5)" in report({"unet-512": busy})


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234"), (12.345, "12.3"), (1.0, "1"), (0.12345, "0.123"), (0.5, "0.5"), (0.0004, "0")],
)
def test_numbers_have_three_digits(value: float, text: str):
    assert number(value) == text


def test_a_spread_of_one_is_a_number():
    assert seconds(Spread(1.5, 1.5, 1.5, 1)) == "1.5"
    assert seconds(Spread(1.5, 1.0, 2.0, 3)) == "1.5 (1–2, n = 3)"
    assert (seconds(None), times(None)) == ("–", "")


def test_the_plot_is_svg_with_a_bar_a_peer():
    drawing = plot({"unet-512": STEP})
    assert drawing is not None
    root = ElementTree.fromstring(drawing)
    bars = [one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("fill", "") != "#fff"]
    assert len(bars) == 2
    assert plot({}) is None


def test_only_what_is_between_the_markers_is_replaced():
    before = f"# Title\n{BEGIN}\nold\n{END}\nend\n"
    after = with_generated(before, "new\n")
    assert after == f"# Title\n{BEGIN}\nnew\n{END}\nend\n"
    assert with_generated(after, "new") == after
    for broken in ("# Title", f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(ValueError, match="must hold the lines"):
            with_generated(broken, "new")


def test_the_document_has_its_markers():
    document = (Path(__file__).parents[3] / "docs/performance.md").read_text(encoding="utf-8")
    assert with_generated(document, "x").count(BEGIN) == 1
