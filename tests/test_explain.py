"""Every illness of a solve is found, by its name and with its numbers, and a healthy solve has none."""

from dataclasses import replace

import numpy as np
import pytest

import solvertap as tap
from solvertap import errors
from solvertap.explaining.course import backward_solve, growth
from solvertap.explaining.explain import explain_solve
from tests.illnesses import HEALTHY, ILL, Case, by_diffrax, by_torchdiffeq

FRAMEWORKS = ("torchdiffeq", "diffrax")


SOLVES = {"torchdiffeq": by_torchdiffeq, "diffrax": by_diffrax}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("illness", ILL)
def test_solve_has_exactly_its_illness(illness, framework):
    (explained,) = SOLVES[framework](ILL[illness]).explain()
    expected = "rejections" if illness == "kinks" else illness
    assert [verdict.illness for verdict, _ in explained.verdicts] == [expected]
    ((verdict, share),) = explained.verdicts
    assert share == 1
    assert 0.25 <= verdict.share <= 1
    assert any(character.isdigit() for character in verdict.finding)
    assert verdict.remedy
    assert explained.place.place.startswith("illnesses.py:")
    assert f"{expected}: {verdict.finding}" in str(explained)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_solve_has_no_verdict(name, framework):
    (explained,) = SOLVES[framework](HEALTHY[name]).explain()
    assert explained.verdicts == []
    assert explained.attempts > 0
    assert "Nothing limits the steps but the problem." in str(explained)


def test_kinks_are_told_from_a_controller_that_is_too_bold():
    for illness, words in (("rejections", "the controller is too bold"), ("kinks", "kinks or jumps")):
        ((verdict, _),) = by_torchdiffeq(ILL[illness]).explain()[0].verdicts
        assert words in verdict.finding
    assert "near t = " not in verdict.finding  # ten of them
    few = replace(ILL["kinks"], end=1.0)
    ((verdict, _),) = by_torchdiffeq(few).explain()[0].verdicts
    assert "near t = 0.523" in verdict.finding  # sin(6 t) = 0


def test_iterations_that_do_not_converge_are_told_from_an_error_that_is_too_large():
    pytest.importorskip("diffrax")

    def robertson(xp, t, y):
        fast, slow = 1e4 * y[1] * y[2], 0.04 * y[0]
        return xp.stack([fast - slow, slow - fast - 3e7 * y[1] ** 2, 3e7 * y[1] ** 2])

    case = Case(robertson, (1.0, 0.0, 0.0), end=100.0, tolerance=1e-8, first=2e-4)
    ((verdict, _),) = by_diffrax(case, "Kvaerno5").explain()[0].verdicts
    assert verdict.illness == "rejections"
    assert "E is not finite in 100 % of these" in verdict.finding


@pytest.mark.parametrize("held", ["module", "closure", "method", "global"])
def test_dropout_in_training_mode_is_the_noise_of_the_field(held):
    torch = pytest.importorskip("torch")
    odeint = pytest.importorskip("torchdiffeq").odeint
    net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 2))
    timed = _Timed(net)
    globals()["_net"] = net
    field = {
        "module": timed,
        "closure": lambda t, y: net(y),
        "method": timed.slope,
        "global": lambda t, y: _net(y),  # noqa: F821  # set above
    }[held]
    for mode in ("train", "eval"):
        getattr(timed, mode)()
        torch.manual_seed(0)
        with tap.observe(trace=True) as seen:
            odeint(field, torch.ones(2), torch.tensor([0.0, 1.0]), rtol=1e-2, atol=1e-2)
        (explained,) = seen.explain()
        names = [verdict.illness for verdict, _ in explained.verdicts]
        assert names == (["field noise"] if mode == "train" else [])
        assert mode == "eval" or "Dropout" in explained.verdicts[0][0].finding


try:
    from torch.nn import Module
except ModuleNotFoundError:
    Module = object


class _Timed(Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y):
        return self.net(y)

    def slope(self, t, y):
        return self.net(y)


def test_adjoint_that_takes_more_than_its_forward_solve_is_told():
    torch = pytest.importorskip("torch")
    odeint_adjoint = pytest.importorskip("torchdiffeq").odeint_adjoint
    rate = torch.nn.Parameter(torch.tensor([30.0], dtype=torch.float64))

    class Field(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = rate

        def forward(self, t, y):
            return -self.rate * y

    def explained(**options):
        with tap.observe(trace=True) as seen:
            y = odeint_adjoint(
                Field(),
                torch.ones(3, dtype=torch.float64),
                torch.tensor([0.0, 1.0], dtype=torch.float64),
                rtol=1e-3,
                atol=1e-3,
                **options,
            )
            y.sum().backward()
            # What is solved elsewhere, without a backward pass, is of no weight.
            for _ in range(9):
                odeint_adjoint(Field(), torch.ones(3).double(), torch.tensor([0.0, 9.0]).double())
        return seen.explain()[0]

    (verdict,) = [v for v, _ in explained(adjoint_rtol=1e-9, adjoint_atol=1e-9).verdicts if v.illness == "adjoint"]
    assert "attempts" in verdict.finding
    assert "seminorm" in verdict.remedy
    assert "adjoint" not in [v.illness for v, _ in explained().verdicts]
    assert backward_solve(10.0, 29.0) is None
    assert backward_solve(10.0, 31.0) is not None


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", ["sample", "part"])
def test_one_that_makes_the_steps_small_for_all_is_named(kind, framework):
    """A fast oscillator among slow ones: as the third sample of eight, or as one component of each."""

    def slope(xp, t, y):
        fast = 1 + 39 * (xp.arange(8) == 2)
        fast = fast[:, None] if kind == "sample" else fast
        return xp.sin(fast * t) * fast * (1 + 0 * y)

    start = tuple((1.0,) * (2 if kind == "sample" else 8) for _ in range(8 if kind == "sample" else 2))
    case = Case(slope, start, end=3.0)
    (explained,) = SOLVES[framework](case, by=kind).explain()
    ((verdict, _),) = explained.verdicts
    assert verdict.illness == f"one {kind}"
    assert f"{kind.capitalize()} 2 of 8 has" in verdict.finding
    assert "the others alone would take about" in verdict.finding
    alone = SOLVES[framework](replace(case, slope=lambda xp, t, y: xp.sin(t) * (1 + 0 * y)))
    foretold = int(verdict.finding.split("about ")[1].split()[0])
    assert alone.stats.accepted <= 2 * foretold
    assert foretold < explained.attempts / 2
    # Where all are alike there is none to name.
    even = SOLVES[framework](replace(case, slope=lambda xp, t, y: xp.sin(t) * (1 + 0 * y)), by=kind).explain()
    assert not any(each.illness.startswith("one ") for each, _ in even[0].verdicts)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_steps_that_the_solver_was_told_are_no_illness(framework):
    """Their error is no reason for their size, however far from what a controller would do."""
    if framework == "torchdiffeq":
        torch = pytest.importorskip("torch")
        odeint = pytest.importorskip("torchdiffeq").odeint
        with tap.observe(trace=True) as seen:
            odeint(lambda t, y: -y, torch.ones(2), torch.linspace(0, 1, 60), method="rk4")
    else:
        diffrax = pytest.importorskip("diffrax")
        term = diffrax.ODETerm(lambda t, y, _: -y)
        with tap.observe(trace=True) as seen:
            diffrax.diffeqsolve(term, diffrax.Dopri5(), 0.0, 1.0, 1 / 60, 1.0)
    (explained,) = seen.explain()
    assert explained.attempts in (59, 60)
    assert explained.limits == "fixed steps"
    assert "as long as the solver was told" in str(explained)


def test_growth_is_a_rise_in_every_third_of_the_training():
    rising = [20.0 + 0.5 * k for k in range(60)]
    verdict = growth(rising, 60)
    assert verdict is not None
    assert "21 evaluations at first and 48 in the end, over 60 solves" in verdict.finding
    assert "over 300 solves" in growth(rising, 300).finding
    assert growth(rising[::-1], 60) is None
    assert growth(rising[:19], 19) is None
    assert growth([20.0 + 8 * (k > 55) for k in range(60)], 60) is None  # by a half at the very end alone
    assert growth([20.0, 40.0, 20.0] * 20, 60) is None


def test_explanation_needs_a_trace_and_has_each_place():
    pytest.importorskip("torchdiffeq")
    torch = pytest.importorskip("torch")
    from torchdiffeq import odeint

    def solve():
        return odeint(lambda t, y: -y, torch.ones(2), torch.tensor([0.0, 1.0]))

    with tap.observe() as seen:
        solve()
    with pytest.raises(errors.InvalidInputError, match=r"observe\(..., trace=True\)"):
        seen.explain()
    with tap.observe(trace=True) as seen:
        solve()
        solve()
        odeint(lambda t, y: -y, torch.ones(2), torch.tensor([0.0, 2.0]))
    first, second = seen.explain()
    assert (first.solves, second.solves) == (2, 1)
    assert first.place != second.place
    assert first.evaluations + second.evaluations / 2 == seen.stats.evaluations / 2
    with tap.observe(trace=True) as seen:
        pass
    assert seen.explain() == []


def test_means_are_of_all_solves_however_many_are_kept():
    torch = pytest.importorskip("torch")
    odeint = pytest.importorskip("torchdiffeq").odeint
    with tap.observe(trace=True) as seen:
        for rate in np.linspace(1, 30, 150):
            odeint(lambda t, y: -rate * y, torch.ones(2), torch.tensor([0.0, 1.0]), rtol=1e-5)  # noqa: B023  # now
    (explained,) = seen.explain()
    stats = seen.stats
    assert len(explained.course) < explained.solves == 150
    assert explained.evaluations == stats.evaluations / 150
    assert explained.attempts == (stats.accepted + stats.rejected) / 150


def test_each_sample_that_steps_by_itself_is_a_solve_of_its_own():
    pytest.importorskip("torchode")
    from tests.torchode_problem import Field, solve

    with tap.observe(trace=True) as seen:
        solve(Field())
    (explained,) = seen.explain()
    assert explained.solves == len(seen.stats.accepted) > 1
    assert explained.evaluations == pytest.approx(np.mean([int(n) for n in seen.stats.evaluations]))
    assert explained.worst.attempts == int(max(seen.stats.accepted + seen.stats.rejected))


def test_what_is_not_known_gives_no_verdict():
    """Without a stability size, an order or tolerances nothing is said that would need them."""
    from solvertap.explaining.anatomy import Anatomy
    from solvertap.steps.facts import Facts

    columns = by_torchdiffeq(ILL["stability"]).trace.numpy()
    assert explain_solve(Anatomy.of_columns(columns, Facts(5, 3.3066))).illness == "stability"
    unknown = explain_solve(Anatomy.of_columns(columns, Facts()))
    assert unknown is None or unknown.illness != "stability"
    columns = by_torchdiffeq(ILL["kinks"]).trace.numpy()
    assert "unclear" in explain_solve(Anatomy.of_columns(columns, Facts())).finding
    none = {name: np.zeros(0) for name in columns}
    assert explain_solve(Anatomy.of_columns(none, Facts(5, 3.3066, 1e-6, 1e-6, 1e-16))) is None


def test_order_of_the_error_estimate_is_that_of_the_tableau():
    diffrax = pytest.importorskip("diffrax")
    from solvertap_diffrax._method import tableau

    orders = {"Dopri5": 5, "Tsit5": 5, "Bosh3": 3, "Heun": 2, "Dopri8": 8, "Kvaerno3": 3}
    term = diffrax.ODETerm(lambda t, y, _: -y)
    assert {name: tableau(getattr(diffrax, name)(), term).error_order for name in orders} == orders
