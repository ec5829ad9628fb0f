"""What an adapter does not say that it serves is refused before the solve, or left out by name: one rule for all."""

import threading

import numpy as np
import pytest

import solvertap as tap
from solvertap import adapting, errors
from solvertap.plugins import registry
from tests.faults import fault

SAMPLE = tap.LocalSample(tap.LocalError())
INSISTED = {
    "align": ({"align": True}, errors.AlignError),
    "checkpoint": ({"checkpoint": True}, errors.CheckpointError),
    "samples": ({"term": SAMPLE, "key": lambda n: 0.5}, errors.NoEstimateError),
    "terms": ({"term": tap.LocalError()}, errors.PenaltyRefusedError),
    "trace": ({"trace": True}, errors.InvalidInputError),
}
CLOSED = {"terms": False, "trace": False}  # True by default


class Somebody(adapting.Adapter):
    name = "somebody"
    module = __name__

    def attach(self, patches):
        pass


class Injecting(Somebody):
    serves = adapting.Serves(regularize=True)

    def inject(self, solution, injection):
        return solution


@pytest.mark.parametrize("flag", INSISTED)
@fault(
    "a term, a trace, `LocalSample`, `align=True` or `checkpoint=True` is asked of an adapter that does not declare it",
    "refused before the solve begins, all in the same words; a declared one is asked",
)
def test_what_is_insisted_on_and_not_declared_is_refused_in_the_same_words(flag):
    asked, kind = INSISTED[flag]
    undeclared = type("Undeclared", (Somebody,), {"serves": adapting.Serves(**CLOSED)})
    with tap.observe(**asked) as seen, pytest.raises(kind) as refusal:
        adapting.open_solve(undeclared(), like=np.ones(2))
    message = str(refusal.value)
    assert "was asked of 'somebody', whose adapter " in message
    assert f". Leave it out, or declare `Serves({flag}=True)` once the adapter " in message
    assert not seen.opened
    declared = type("Declared", (Somebody,), {"serves": adapting.Serves(**CLOSED | {flag: True})})
    with tap.observe(**asked) as seen:
        assert adapting.open_solve(declared(), like=np.ones(2)) is not None
    assert len(seen.opened) == 1


@pytest.mark.parametrize(
    ("adapter", "term", "flag"),
    [
        (Somebody, tap.LocalError(), "regularize"),
        (type("Forgetful", (Somebody,), {"serves": adapting.Serves(regularize=True)}), tap.LocalError(), "regularize"),
        (Injecting, SAMPLE, "samples"),
        (
            type("Adjoint", (Injecting,), {"serves": adapting.Serves(regularize=True, terms=False)}),
            tap.LocalError(),
            "terms",
        ),
    ],
    ids=["no injection", "declared, and nothing to inject with", "no samples", "steps without gradient"],
)
@fault("`regularize` adds to solves of an adapter that cannot serve it", "left out, and `left_out` names the adapter")
def test_what_is_offered_and_not_declared_is_left_out_by_name(adapter, term, flag):
    with tap.regularize(term) as regularizer:
        solve = adapting.open_solve(adapter(), like=np.ones(2))
    assert solve.terms == ()
    (reason,) = regularizer.left_out
    assert "was asked of 'somebody', whose adapter " in reason
    assert f"declare `Serves({flag}=True)` once" in reason


def test_what_is_declared_and_offered_is_not_left_out():
    with tap.regularize(tap.LocalError()) as regularizer:
        solve = adapting.open_solve(Injecting(), like=np.ones(2))
    assert [term.name for term in solve.terms] == ["local_error"]
    assert not regularizer.left_out


def test_solution_is_let_through_when_its_solve_has_finished():
    with tap.regularize(tap.LocalError()):
        solve = adapting.open_solve(Injecting(), like=np.ones(2))
        with pytest.raises(errors.StepError, match="before its solve had finished; call `through` after `finish`"):
            solve.through(np.ones(2))


@pytest.mark.parametrize("name", ["torchdiffeq", "torchsde", "diffrax", "torchdyn"])
def test_built_in_adapters_declare_all_of_it(name):
    adapter = registry.plugins().adapters[name]
    assert adapter.serves == adapting.Serves(
        samples=True, replay=name != "torchdyn", align=True, checkpoint=True, regularize=True
    )


def test_remedy_for_steps_without_gradient_is_a_sample_where_the_adapter_serves_one():
    adapter = type("Adjoint", (Somebody,), {"serves": adapting.Serves(terms=False, samples=True)})()
    with tap.observe(tap.LocalError()), pytest.raises(errors.PenaltyRefusedError, match="Put `LocalSample` around"):
        adapting.open_solve(adapter, like=np.ones(2))


# --- The solve of a call ----------------------------------------------------------------------------------------------
def test_solve_of_a_call_is_found_by_its_adapter_here_and_not_in_a_field_or_another_thread():
    adapter, other = Somebody(), type("Other", (Somebody,), {"name": "other"})()
    with tap.observe():
        solve, inner = adapting.open_solve(adapter), adapting.open_solve(adapter)
    found = []
    with adapter.current(solve):
        assert adapter.running() is solve
        assert other.running() is None
        assert adapter.current(inner).call(adapter.running) is inner
        assert tap.unobserved().call(adapter.running) is None
        with tap.observe():
            assert adapter.running() is solve
        thread = threading.Thread(target=lambda: found.append(adapter.running()))
        thread.start()
        thread.join()
    assert found == [None]
    assert adapter.running() is None


def test_step_size_is_held_where_a_term_is_requested_and_nowhere_else():
    adapter = type("Cut", (Somebody,), {"constant": lambda self, x: -x})()
    for asked, held in ({"trace": True}, 2.0), ({"term": tap.LocalError()}, -2.0):
        with tap.observe(**asked):
            assert adapting.open_solve(adapter, like=np.ones(2)).hold(2.0) == held


# --- Where a built-in adapter aligns, and one of its methods cannot ---------------------------------------------------


def _scipy():
    torch = pytest.importorskip("torch")
    torchdiffeq = pytest.importorskip("torchdiffeq")
    torchdiffeq.odeint(lambda t, y: -y, torch.ones(2), torch.tensor([0.0, 1.0]), method="scipy_solver")


def _no_ode_term():
    diffrax = pytest.importorskip("diffrax")
    import jax.numpy as jnp

    term = diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, args: -y), diffrax.ODETerm(lambda t, y, args: -y))
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    diffrax.diffeqsolve(term, diffrax.Heun(), 0, 1, None, jnp.ones(2), stepsize_controller=controller)


@pytest.mark.parametrize("solve", [_scipy, _no_ode_term])
@fault("`align=True` is asked of a method that cannot take the reference steps", "refused before the solve begins")
def test_method_that_cannot_take_the_reference_steps_refuses_them(solve):
    solve()
    with (
        tap.observe(align=True) as seen,
        pytest.raises(errors.AlignError, match=r"`observe\(align=True\)` was asked of .*, or leave (it|`align`) out\."),
    ):
        solve()
    assert seen.stats == tap.Stats()
