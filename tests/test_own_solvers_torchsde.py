"""Solvers and SDEs that somebody has written on top of torchsde: seen, or refused, never silently zero."""

import warnings
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
torchsde = pytest.importorskip("torchsde")

from torchsde._core import adaptive_stepping, base_sde, base_solver, methods
from torchsde._core.methods.heun import Heun

import solvertap as tap
from solvertap import errors
from tests.faults import fault

TERM = tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")
TIMES = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
TOLERANCE = 3e-3


class SDE(torch.nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self, weights=None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(2, 2, generator=generator, dtype=torch.float64) if weights is None else weights
        self.w = torch.nn.Parameter(weights)

    def f(self, t, y):
        return 3 * torch.tanh(y @ self.w) + torch.sin(20 * t)

    def g(self, t, y):
        return 0.3 + 0.1 * torch.sin(y @ self.w.T)  # not zero, by which `logqp` divides

    def h(self, t, y):
        return -y


def _y0():
    return torch.tensor([[1.0, -0.5], [0.3, 0.8], [2.0, 0.1]], dtype=torch.float64)


def _path(columns=2, **options):
    options = options or {"tol": 1e-5, "halfway_tree": True}
    return torchsde.BrownianInterval(0.0, 1.0, size=(3, columns), dtype=torch.float64, entropy=7, **options)


def _sdeint(solver, sde, monkeypatch, adaptive=True, **options):
    monkeypatch.setattr(methods, "select", lambda method, sde_type: solver)
    path = _path() if adaptive else _path(halfway_tree=False)
    options = {"dt": 0.3 if adaptive else 0.1, "rtol": TOLERANCE, "atol": TOLERANCE} | options
    return torchsde.sdeint(sde, _y0(), TIMES, bm=path, method="heun", adaptive=adaptive, **options)


class Stepping(Heun):
    """A step of its own."""

    def step(self, t0, t1, y0, extra0):
        dt, noise = t1 - t0, self.bm(t0, t1)
        f, g = self.sde.f_and_g_prod(t0, y0, noise)
        f1, g1 = self.sde.f_and_g_prod(t1, y0 + dt * f + g, noise)
        return y0 + 0.5 * (dt * (f + f1) + g + g1), ()


class Direct(base_solver.BaseSDESolver):
    """Nothing but the base."""

    strong_order = weak_order = 0.5
    sde_type = "stratonovich"
    noise_types = ("diagonal",)
    levy_area_approximations = ("none",)
    step = Stepping.step


class Controlled(Heun):
    """torchsde's loop with a controller of its own."""

    def integrate(self, y0, ts, extra0):
        h, t, y, ys = self.dt, ts[0], y0, [y0]
        for out in ts[1:]:
            while t < out:
                end = min(t + h, out)
                whole, _ = self.step(t, end, y, extra0)
                half, extra = self.step(t, 0.5 * (t + end), y, extra0)
                new, extra = self.step(0.5 * (t + end), end, half, extra)
                error = adaptive_stepping.compute_error(whole.detach(), new.detach(), self.rtol, self.atol)
                h = float(end - t) * min(2.0, max(0.3, 0.9 / max(float(error), 1e-6) ** 0.5))
                if error <= 1:
                    t, y, extra0 = end, new, extra
            ys.append(y)
        return torch.stack(ys), extra0


class Around(Heun):
    """Something around the loop of the class above."""

    def integrate(self, y0, ts, extra0):
        ys, extra = super().integrate(y0, ts, extra0)
        return 2 * ys, extra


SEEN = [Stepping, Direct, Controlled, Around]


@pytest.mark.parametrize("solver", SEEN)
@fault(
    "a solver that somebody wrote on top of torchsde's: own `step`, own controller, the loop above",
    "its steps are seen, its solution is bitwise its own, the penalty is added by `regularize` as it is observed",
)
def test_steps_of_somebodys_own_solver_are_seen(solver, monkeypatch):
    def gradient(around):
        sde = SDE()
        with around:
            _sdeint(solver, sde, monkeypatch).sum().backward()
        return sde.w.grad

    bare = _sdeint(solver, SDE(), monkeypatch)
    sde = SDE()
    with tap.observe(TERM, trace=True) as seen:
        assert torch.equal(_sdeint(solver, sde, monkeypatch), bare)
    assert seen.stats.solves == 1
    assert seen.stats.accepted > 3
    trace = seen.trace.numpy()
    ends = (trace["t"] + trace["h"])[trace["accepted"]]
    assert ends[:-1] == pytest.approx(trace["t"][trace["accepted"]][1:])  # one after another
    with tap.observe(TERM) as seen:  # a trace measures rejected attempts as well
        _sdeint(solver, sde, monkeypatch)
    (penalty,) = torch.autograd.grad(seen.penalty, sde.w)
    regularizer = tap.regularize(TERM, passes="all")
    torch.testing.assert_close(gradient(regularizer) - gradient(tap.unobserved()), penalty, rtol=1e-7, atol=1e-9)
    assert regularizer.stats == {"training": seen.stats}
    assert not regularizer.left_out


def test_known_method_and_a_copy_of_it_have_the_same_penalty(monkeypatch):
    found = []
    for solver in (Heun, Direct):
        with tap.observe(TERM) as seen:
            _sdeint(solver, SDE(), monkeypatch)
        found.append(seen.penalty.item())
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.parametrize("solver", [Stepping, Direct])
def test_reference_steps_are_taken_by_a_method_of_somebodys_own(solver, monkeypatch):
    found = []
    for align in (False, True):
        with tap.observe(TERM, align=align) as seen:
            _sdeint(solver, SDE(), monkeypatch)
        found.append(seen.stats)
    assert found[0] != found[1]
    assert found[1].accepted > 3


def test_method_of_somebodys_own_has_no_stability_size_by_its_name(monkeypatch):
    stepping = type("Heun", (Stepping,), {})  # another step by the name of one that is known
    for solver in (stepping, Direct):
        with (
            pytest.raises(errors.NoEstimateError, match="stability"),
            tap.observe(tap.Stiffness(stability_size="solver")),
        ):
            _sdeint(solver, SDE(), monkeypatch)
    with tap.observe(tap.Stiffness(stability_size="solver")) as seen:
        _sdeint(type("Mine", (Heun,), {}), SDE(), monkeypatch)
    assert seen.penalty > 0


# --- What cannot be seen ----------------------------------------------------------------------------------------------


class Embedded(Heun):
    """One step an attempt, and an error of its own."""

    def integrate(self, y0, ts, extra0):
        t, y, ys = ts[0], y0, [y0]
        for out in ts[1:]:
            while t < out:
                end = min(t + self.dt / 2, out)
                y, extra0 = self.step(t, end, y, extra0)
                t = end
            ys.append(y)
        return torch.stack(ys), extra0


class Inline(Heun):
    """Steps written out in the loop."""

    def integrate(self, y0, ts, extra0):
        ys = [y0]
        for t, end in pairwise(ts):
            y = ys[-1]
            ys.append(y + (end - t) * self.sde.f(t, y) + self.sde.g_prod(t, y, self.bm(t, end)))
        return torch.stack(ys), extra0


@pytest.mark.parametrize("solver", [Embedded, Inline])
@fault(
    "an `integrate` of somebody's own on top of torchsde that takes no step whole and in halves",
    "a penalty is refused with the remedy; evaluations are counted, steps are not known",
)
def test_loop_whose_steps_nobody_sees_refuses_a_penalty_and_is_counted(solver, monkeypatch):
    with pytest.raises(errors.FixedStepError, match=solver.__name__) as raised, tap.observe(TERM):
        _sdeint(solver, SDE(), monkeypatch)
    assert str(raised.value).count(". ") <= 2  # three sentences at most
    bare = torch.autograd.grad(_sdeint(solver, sde := SDE(), monkeypatch).sum(), sde.w)[0]
    with tap.regularize(TERM, passes="all") as regularizer:
        (gradient,) = torch.autograd.grad(_sdeint(solver, sde := SDE(), monkeypatch).sum(), sde.w)
    assert torch.equal(gradient, bare)
    assert [solver.__name__ in reason for reason in regularizer.left_out] == [True]
    told = regularizer.stats["training"]
    assert (told.solves, told.accepted, told.rejected) == (1, None, None)
    assert told.evaluations > 0


def test_loop_of_somebodys_own_without_adaptation_is_counted_and_doubled(monkeypatch):
    with tap.observe() as seen:
        bare = _sdeint(Embedded, SDE(), monkeypatch, adaptive=False)
    assert seen.stats.accepted == 20
    with tap.observe(DOUBLED) as seen:
        assert torch.equal(_sdeint(Embedded, sde := SDE(), monkeypatch, adaptive=False), bare)
    assert torch.autograd.grad(seen.penalty, sde.w)[0].abs().sum() > 0


class Remembering(Heun):
    """A step that goes on with the slope of the one before."""

    last = None

    def step(self, t0, t1, y0, extra0):
        f = self.sde.f(t0, y0)
        before = f if self.last is None else self.last
        self.last = f
        return y0 + (t1 - t0) * (1.5 * f - 0.5 * before) + self.sde.g_prod(t0, y0, self.bm(t0, t1)), ()


@pytest.mark.parametrize("term", [DOUBLED, tap.LocalSample(DOUBLED)])
def test_step_that_builds_on_the_one_before_refuses_to_be_doubled(term, monkeypatch):
    with pytest.raises(errors.FixedStepError, match="`last`"), tap.observe(term):
        _sdeint(Remembering, SDE(), monkeypatch, adaptive=False)
    bare = _sdeint(Remembering, SDE(), monkeypatch, adaptive=False)
    with tap.regularize(term, passes="all") as regularizer:
        assert torch.equal(_sdeint(Remembering, SDE(), monkeypatch, adaptive=False), bare)
    assert ["`last`" in reason for reason in regularizer.left_out] == [True]


# --- Ways to give an SDE ----------------------------------------------------------------------------------------------


class Renamed(torch.nn.Module):
    noise_type, sde_type = SDE.noise_type, SDE.sde_type

    def __init__(self):
        super().__init__()
        self.inner = SDE()
        self.w = self.inner.w

    def drift(self, t, y):
        return self.inner.f(t, y)

    def diffusion(self, t, y):
        return self.inner.g(t, y)

    def prior(self, t, y):
        return self.inner.h(t, y)


class Together(torch.nn.Module):
    """Drift and diffusion in one, the only method."""

    noise_type, sde_type = SDE.noise_type, SDE.sde_type

    def __init__(self):
        super().__init__()
        self.inner = SDE()
        self.w = self.inner.w

    def f_and_g(self, t, y):
        return self.inner.f(t, y), self.inner.g(t, y)


class Forward(base_sde.ForwardSDE):
    """A ForwardSDE with a drift of its own."""

    def f_default(self, t, y):
        return self._base_sde.inner.f(t, y)

    def g_default(self, t, y):
        return self._base_sde.inner.g(t, y)


def _integrated(sde):
    solver = Heun(
        sde=Forward(sde), bm=_path(), dt=0.3, adaptive=True, rtol=TOLERANCE, atol=TOLERANCE, dt_min=1e-5, options={}
    )
    return solver.integrate(_y0(), TIMES, ())[0]


class Only(torch.nn.Module):
    """Neither drift nor diffusion by the names that torchsde knows."""

    noise_type, sde_type = SDE.noise_type, SDE.sde_type

    def __init__(self):
        super().__init__()
        self.inner = SDE()
        self.w = self.inner.w


NAMES = {"drift": "drift", "diffusion": "diffusion"}
CALL = {"dt": 0.3, "adaptive": True, "rtol": TOLERANCE, "atol": TOLERANCE, "method": "heun"}


def _call(sde, **options):
    options = CALL | {"bm": _path()} | options
    return torchsde.sdeint(sde, _y0(), TIMES, **options)


WAYS = {
    "names": (Renamed, lambda sde: _call(sde, names=NAMES)),
    "together": (Together, _call),
    "logqp": (SDE, lambda sde: _call(sde, bm=_path(3), logqp=True)[0]),
    "logqp, names": (
        Renamed,
        lambda sde: _call(sde, bm=_path(3), logqp=True, names=NAMES | {"prior_drift": "prior"})[0],
    ),
    "a ForwardSDE of its own": (Only, _integrated),
}


@pytest.mark.parametrize("name", WAYS)
@fault(
    "torchsde's `names`, `logqp`, `f_and_g` alone, a `ForwardSDE` of somebody's own",
    "evaluations are counted, terms measured and added like any other",
)
def test_every_way_to_give_an_sde_is_counted_and_regularized(name):
    make, solve = WAYS[name]
    term = TERM + tap.KineticEnergy()
    calls = []

    def counted(sde):
        inner = getattr(sde, "inner", sde)
        f = inner.f
        inner.f = lambda t, y: calls.append(t) or f(t, y)
        return sde

    with tap.observe() as bare:
        solution = solve(counted(make()))
    assert bare.stats.evaluations in range(len(calls) - 2, len(calls) + 1)  # torchsde tries the shapes out first
    sde = make()
    with tap.observe(term) as seen:
        assert torch.equal(solve(sde), solution)
    assert seen.values["kinetic_energy"] > 0
    (penalty,) = torch.autograd.grad(seen.penalty, sde.w)
    gradients = []
    for around in (tap.unobserved(), tap.regularize(term, passes="all")):
        sde = make()
        with around:
            gradients.append(torch.autograd.grad(solve(sde).sum(), sde.w)[0])
    torch.testing.assert_close(gradients[1] - gradients[0], penalty, rtol=1e-7, atol=1e-9)


def test_step_whose_first_drift_stands_elsewhere_shows_no_slopes(monkeypatch):
    class Ahead(Heun):
        def step(self, t0, t1, y0, extra0):
            dt = t1 - t0
            end = self.sde.f(t1, y0 + 0)
            return y0 + dt * (self.sde.f(t0, y0) + end) / 2 + self.sde.g_prod(t0, y0, self.bm(t0, t1)), ()

    class Elsewhere(Heun):
        def step(self, t0, t1, y0, extra0):
            return y0 + (t1 - t0) * self.sde.f(t1, y0 + 0) + self.sde.g_prod(t0, y0, self.bm(t0, t1)), ()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tap.observe(tap.KineticEnergy()) as seen:
            _sdeint(Ahead, SDE(), monkeypatch)
        assert seen.penalty > 0
        with pytest.raises(errors.NoEstimateError), tap.observe(tap.KineticEnergy()):
            _sdeint(Elsewhere, SDE(), monkeypatch)
