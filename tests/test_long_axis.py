"""A number swept over many values: a curve instead of a line each, and a table that stays short."""

import numpy as np
import pandas as pd
import pytest
from frames import rows_and_curves
from matplotlib.figure import Figure
from test_tables_plots import text_of

from jaxwan.analysis.axis import long_axis, thinned
from jaxwan.analysis.humane import rate
from jaxwan.analysis.tables import render_reasons
from jaxwan.results import Results


def swept(values):
    """Return runs of two compressors at each bandwidth; the time is 1e9 over it, plus the seed."""
    frame, curves = rows_and_curves(seeds=4, challenges=("wan_bandwidth",))
    parts = []
    for place, value in enumerate(values):
        part = frame.assign(**{"link.bandwidth_bps": value, "time_s": 1e9 / value + frame["seed"]})
        part["config_id"] = part["config_id"] + f"-{place}"
        part["run_id"] = part["run_id"] + f"-{place}"
        parts.append(part.assign(loss_final=np.nan, reached=False, failed_criteria="min_steps"))
    return Results(pd.concat(parts, ignore_index=True), curves)


def test_only_a_number_with_many_values_is_an_axis():
    assert long_axis(swept(np.geomspace(1e5, 1e9, 10)).frame) is None
    axis = long_axis(swept(np.geomspace(1e5, 1e9, 11)).frame)
    assert axis.name == "link.bandwidth_bps"
    assert len(axis.values) == 11


def test_the_picture_has_a_line_per_other_setting(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    values = np.geomspace(1e5, 1e9, 21)
    swept(values).plot(tmp_path / "x.png")
    share, time = kept[0].axes
    assert share.get_legend_handles_labels()[1] == ["no compressor", "topk"]
    for line in time.get_lines():
        np.testing.assert_allclose(line.get_xdata(), values)
        np.testing.assert_allclose(line.get_ydata(), 1e9 / values + 1.5)  # the mean of four seeds
    assert time.get_xscale() == time.get_yscale() == "log"


def test_a_long_table_shows_some_values_and_says_so():
    results = swept(np.geomspace(1e5, 1e9, 41))
    text = text_of(results.summary(), 100)
    assert text.count("bit/s") == 2 * 11
    assert "100 kbit/s" in text
    assert "1 Gbit/s" in text
    assert "11 of 41 values of link.bandwidth_bps shown" in text
    why = render_reasons(results.success_reasons(), results.summary())
    assert str(why).count("min_steps") == 2 * 11
    assert len(thinned(results.summary(), ["link.bandwidth_bps"])[0]) == 2 * 11


@pytest.mark.parametrize(
    ("value", "text"), [(5e6, "5 Mbit/s"), (1.02e6, "1.02 Mbit/s"), (1e10, "10 Gbit/s"), (0, "0 b")]
)
def test_rates_are_written_for_people(value, text):
    assert rate(value).startswith(text)
