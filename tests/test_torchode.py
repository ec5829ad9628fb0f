"""torchode: each sample of a batch takes steps of its own, and is observed as if it were solved alone."""

import threading

import pytest

torch = pytest.importorskip("torch")
torchode = pytest.importorskip("torchode")

from torchode import AutoDiffAdjoint

import solvertap as tap
from solvertap import errors
from tests.cells import proves
from tests.faults import fault
from tests.oracle import TERMS
from tests.torchode_problem import ENDS, METHODS, STARTS, Y0, Field, exact, gradient, integral, pid, solve, spans

BOTH = tap.LocalError() + tap.Stiffness()
OBSERVED = {
    "counted": {},
    "traced": {"trace": True},
    "penalized": {"term": sum(TERMS.values())},
    "penalized and traced": {"term": BOTH, "trace": True},
    "sampled": {"term": tap.LocalSample(tap.LocalError())},
}


def bits(x):
    return x.dtype, x.detach().numpy().tobytes()


# --- Left alone -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_solution_and_gradient_are_bitwise_the_bare_ones(method, backwards, evaluated):
    # Without a first step torchode differentiates the one that it chooses.
    first = None if backwards else 0.5
    problem = {"backwards": backwards, "evaluated": evaluated, "controller": pid if evaluated else integral}
    problem["first"] = first
    bare, cut = Field(), Field()
    solutions = solve(bare, method, **problem), solve(cut, method, differentiated=False, **problem)
    gradients = [gradient(s.ys.pow(2).sum(), f) for s, f in zip(solutions, (bare, cut), strict=True)]
    assert bits(solutions[0].ys) == bits(solutions[1].ys)
    for how, options in OBSERVED.items():
        field = Field()
        with tap.observe(**options):
            found = solve(field, method, **problem)
        assert bits(found.ys) == bits(solutions[0].ys), how
        # Under a full term the step sizes are held: it is the gradient without the controller then, bit by bit.
        held = "penalized" in how
        assert bits(gradient(found.ys.pow(2).sum(), field)) == bits(gradients[held]), how
        for name in ("n_f_evals", "n_steps", "n_accepted", "n_initialized"):
            assert torch.equal(found.stats[name], solutions[0].stats[name]), how
        assert torch.equal(found.status, solutions[0].status)


@fault(
    "torchode differentiates its step sizes, which a term holds fixed",
    "under a term the solution has the gradient of `backprop_through_step_size_control=False`, else its own",
)
def test_gradient_that_a_term_cuts_is_that_of_the_step_sizes_alone():
    differentiated, held = Field(), Field()
    found = gradient(solve(differentiated, tolerance=1e-2).ys.pow(2).sum(), differentiated)
    wanted = gradient(solve(held, tolerance=1e-2, differentiated=False).ys.pow(2).sum(), held)
    moved = (found - wanted).norm() / wanted.norm()
    assert 1e-4 < moved < 0.5  # a third, at this tolerance and with a kink in the field


@pytest.mark.parametrize("first", [0.5, None])
@pytest.mark.parametrize("method", METHODS)
def test_counts_of_each_sample_are_those_of_torchode(method, first):
    field = Field()
    with tap.observe(BOTH, trace=True) as seen:
        stats = solve(field, method, first=first).stats
    found = seen.stats
    assert torch.equal(found.accepted, stats["n_accepted"])
    assert torch.equal(found.rejected, stats["n_steps"] - stats["n_accepted"])
    assert torch.equal(found.evaluations, stats["n_f_evals"])
    assert (found.evaluations + found.measuring).tolist() == [field.calls] * 5
    assert found.rejected.sum() > 0
    assert len(set(stats["n_steps"].tolist())) > 1  # samples that finish early are not counted on
    assert seen.trace.length.tolist() == stats["n_steps"].tolist()
    for trace, start, end in zip(seen.trace.samples(), STARTS, ENDS, strict=True):
        rows = trace.numpy()
        assert rows["t"][0] == start.item()
        assert (rows["t"] + rows["h"])[-1] == pytest.approx(end.item(), abs=1e-15)


def test_each_sample_of_a_batch_is_as_if_it_were_solved_alone():
    def observed(which):
        field = Field()
        with tap.observe(sum(TERMS.values()), trace=True) as seen:
            solve(field, which=which)
        return field, seen

    field, together = observed(slice(None))
    for i in range(len(Y0)):
        alone_field, alone = observed(slice(i, i + 1))
        assert together.stats.accepted[i] == alone.stats.accepted[0]
        assert together.stats.rejected[i] == alone.stats.rejected[0]
        for name, values in together.values.items():
            assert values[i].item() == pytest.approx(alone.values[name].item(), rel=1e-8)
            wanted = gradient(alone.values[name], alone_field)
            assert (gradient(values[i], field) - wanted).norm() <= 1e-6 * wanted.norm()
    torch.testing.assert_close(together.penalty, sum(x.mean() for x in together.values.values()), rtol=1e-12, atol=0)


def test_own_function_sees_one_sample_and_the_field_of_the_batch():
    scales = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)

    class Scaled(Field):
        def forward(self, t, y):  # data of each sample: it cannot be evaluated on one of them
            return scales[:, None] * super().forward(t, y)

    field = Scaled()
    term = tap.term(lambda step: (step.field(step.t1, step.y1) ** 2).mean(), name="own")
    with tap.observe(term) as seen, tap.observe(trace=True) as traced:
        solve(field)
    assert seen.values["own"].shape == (5,)
    # k_7 of Dopri5 is the slope at the end of the step.
    last = tap.term(lambda step: (step.stages.slopes[-1] ** 2).mean(), name="last")
    with tap.observe(last) as wanted:
        solve(field)
    torch.testing.assert_close(seen.values["own"], wanted.values["last"], rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(seen.penalty, field), gradient(wanted.penalty, field), rtol=1e-9, atol=0)
    assert traced.stats.rejected.sum() > 0


@fault("a sample of a batch leaves the numbers of its format", "its own value is that, and no other sample's")
def test_sample_that_fails_leaves_the_others_their_numbers():
    class Exploding(Field):
        def forward(self, t, y):
            late = (t > 0.6) & (torch.arange(len(t)) == 1)
            return torch.where(late[:, None], float("nan"), super().forward(t, y))

    bare, field = Field(), Exploding()
    with tap.observe(BOTH, trace=True) as seen:
        solution = solve(field)
    assert (solution.status != 0).any()
    assert seen.stats.rejected[1] > 0
    for values in seen.values.values():
        assert torch.isfinite(values).all()  # a step that is no number is not accepted
    with tap.observe(BOTH, trace=True) as wanted:
        solve(bare)
    finished = 4  # before the other fails
    assert seen.values["local_error"][finished] == wanted.values["local_error"][finished]


# --- Ways to call it --------------------------------------------------------------------------------------------------
def test_solve_ivp_and_early_imports_are_seen():
    field = Field()
    adjoint = AutoDiffAdjoint(torchode.Tsit5(torchode.ODETerm(field)), integral(None, 1e-6))
    with tap.observe(BOTH) as seen:
        torchode.solve_ivp(field, Y0, torch.linspace(0, 1, 3, dtype=torch.float64), method="dopri5")
        adjoint.solve(spans(), torchode.ODETerm(field))
    assert [solve.method for solve in seen.solves] == ["dopri5", "tsit5"]
    assert seen.penalty.requires_grad


@pytest.mark.parametrize("args", [False, True])
def test_arguments_reach_the_field(args):
    given = torch.tensor(2.0, dtype=torch.float64)
    term = torchode.ODETerm(lambda t, y, *more: -y * (more[0] if args else given), with_args=args)
    adjoint = AutoDiffAdjoint(torchode.Heun(term), integral(term, 1e-3))
    with tap.observe(tap.Stiffness()) as seen:  # which evaluates the field beside the steps
        solution = adjoint.solve(spans(), args=given if args else None)
    with tap.observe(tap.LocalSample(tap.LocalError())):
        adjoint.solve(spans(), args=given if args else None)
    steps = solution.stats["n_accepted"].double()
    torch.testing.assert_close(seen.values["stiffness"], 2 * steps, rtol=1e-6, atol=0)


def test_compiled_solve_is_the_bare_one_and_is_seen_inside_a_block():
    term = torchode.ODETerm(lambda t, y: -y)
    adjoint = AutoDiffAdjoint(torchode.Heun(term), torchode.FixedStepController())
    times = torch.zeros(2), torch.ones(2)

    def solved():
        return adjoint.solve(torchode.InitialValueProblem(torch.ones(2, 1), *times), dt0=torch.ones(2)).ys

    bare = solved()
    torch.compiler.reset()
    compiled = torch.compile(solved, backend="eager")
    assert bits(compiled()) == bits(bare)
    with tap.observe(tap.LocalError(rtol=1e-3, atol=1e-3)) as seen:
        assert bits(compiled()) == bits(bare)
    assert seen.stats.accepted.tolist() == [1, 1]
    assert seen.penalty > 0
    assert bits(compiled()) == bits(bare)


@fault(
    "somebody has torchode's loop compiled by TorchScript, which reads its source",
    "it finds the source and the names of torchode's own",
)
def test_torchscript_reads_the_loop_that_it_reads_without_us():
    def read():
        function = AutoDiffAdjoint.solve
        names = torch._jit_internal.createResolutionCallbackFromClosure(function)
        tree = torch.jit.frontend.get_jit_def(function, "solve", self_name="Scripted")
        return str(tree), [names(name) for name in ("status_codes", "torch", "Dict", "Solution")]

    bare = read()
    tap.attach()
    assert hasattr(AutoDiffAdjoint.solve, "__wrapped__")
    assert read() == bare


def test_field_that_solves_is_one_solve():
    inner = Field()

    class Nested(Field):
        def forward(self, t, y):
            end = solve(inner, tolerance=1e-2, which=slice(0, 1)).ys[0, -1]
            return super().forward(t, y) + 0.01 * end

    field = Nested()
    bare = solve(field, tolerance=1e-3)
    field.calls = 0
    with tap.observe(BOTH) as seen:
        assert bits(solve(field, tolerance=1e-3).ys) == bits(bare.ys)
    (one,) = seen.solves
    assert one.stats.evaluations.tolist() == [field.calls] * 5


def test_field_that_raises_is_a_failed_solve():
    class Failing(Field):
        def forward(self, t, y):
            if self.calls == 9:
                raise ArithmeticError("from the field")
            return super().forward(t, y)

    with tap.observe(trace=True) as seen, pytest.raises(ArithmeticError, match="from the field"):
        solve(Failing())
    assert not seen.solves
    (failed,) = seen.failed
    assert failed.trace.length.tolist() == [1] * 5


def test_threads_share_an_adjoint():
    field = Field()
    term = torchode.ODETerm(field)
    adjoint = AutoDiffAdjoint(torchode.Dopri5(term), integral(term, 1e-5))
    found = {}

    def run(size):
        with tap.observe(BOTH) as seen:
            solution = adjoint.solve(spans(which=slice(0, size)))
        found[size] = seen.penalty.item(), seen.stats.accepted, solution.stats["n_accepted"]

    tap.attach()
    threads = [threading.Thread(target=run, args=(size,)) for size in (1, 2, 3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(found)
    for size, (penalty, counted, own) in together.items():
        run(size)
        assert found[size][0] == penalty
        assert torch.equal(counted, own)


@pytest.mark.parametrize("at", [1, 3, 20])
def test_detach_in_the_middle_leaves_the_solve_whole(at):
    class Detaching(Field):
        def forward(self, t, y):
            if self.calls == at:
                tap.detach()
            return super().forward(t, y)

    bare = solve(Field())
    with tap.observe(BOTH) as seen:
        solution = solve(Detaching())
    assert bits(solution.ys) == bits(bare.ys)
    assert torch.equal(seen.stats.accepted, bare.stats["n_accepted"])  # it is seen to its end
    assert "solve" in vars(AutoDiffAdjoint)
    assert not hasattr(AutoDiffAdjoint.solve, "__wrapped__")


# --- Gradients --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", ["mean", "sum"])
def test_regularize_adds_the_gradient_of_the_penalty(batch):
    plain, regularized = Field(), Field()
    with tap.observe(2.0 * tap.LocalError()) as seen:
        solution = solve(plain)
    factor = 1 if batch == "mean" else len(Y0)
    (solution.ys.pow(2).mean() + factor * seen.penalty).backward()
    optimiser = torch.optim.SGD(regularized.parameters(), lr=0.0)
    with tap.regularize("2*local_error", batch=batch) as at_work:
        solve(regularized).ys.pow(2).mean().backward()
        optimiser.step()
    torch.testing.assert_close(regularized.weights.grad, plain.weights.grad, rtol=1e-9, atol=0)
    assert at_work.backward_passes["carried"] == 1
    assert at_work.stats["training"].accepted == solution.stats["n_accepted"].sum()


@fault("a `budget` counts the steps of a batch", "each sample is a solve, and their mean counts")
def test_budget_counts_the_steps_of_one_sample():
    field, budget = Field(), tap.budget(steps=20)
    optimiser = torch.optim.SGD(field.parameters(), lr=0.0)
    with tap.regularize(budget) as at_work:
        solution = solve(field)
        solution.ys.pow(2).mean().backward()
        optimiser.step()
    assert at_work.budget_state.level == pytest.approx(solution.stats["n_steps"].double().mean().item(), rel=1e-12)
    assert at_work.stats["training"].solves == len(Y0)


@fault("torchode solves in `torch.inference_mode`, whose tensors count no changes", "the solve is the bare one")
@pytest.mark.parametrize("how", [tap.observe, lambda: tap.observe(trace=True), lambda: tap.regularize("local_error")])
def test_inference_mode_is_observed(how):
    with torch.inference_mode():
        bare = solve(Field()).ys
        with how() as seen:
            found = solve(Field()).ys
    assert bits(found) == bits(bare)
    stats = seen.stats["evaluation"] if isinstance(seen, tap.regularize) else seen.stats
    assert torch.as_tensor(stats.accepted).sum() > 0


def test_penalty_without_gradients_is_refused():
    field = Field()
    with torch.no_grad():
        with tap.observe(BOTH), pytest.raises(errors.GradientDisabledError):
            solve(field)
        with tap.observe() as seen:
            solve(field)
    assert seen.stats.accepted.sum() > 0


def _backsolve(adjoint, field):
    term = torchode.ODETerm(field)
    solver = adjoint(term, torchode.Dopri5(term), exact(torchode.IntegralController(1e-5, 1e-5, term=term), 1e-5))
    # The joint adjoint takes one step for all, and cannot follow a kink in time.
    return solver.solve(spans(), dt0=torch.full((1 if "Joint" in adjoint.__name__ else 5,), 0.3, dtype=torch.float64))


ADJOINTS = [torchode.BacksolveAdjoint, torchode.JointBacksolveAdjoint]


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_continuous_adjoint_counts_its_backward_pass_and_refuses_terms(adjoint):
    bare, field = Field(), Field()
    loss = _backsolve(adjoint, bare).ys.pow(2).sum()
    forwards = bare.calls
    loss.backward()
    with tap.observe() as seen:
        solution = _backsolve(adjoint, field)
    solution.ys.pow(2).sum().backward()
    assert bits(field.weights.grad) == bits(bare.weights.grad)
    assert torch.equal(seen.stats.accepted, solution.stats["n_accepted"])
    (backwards,) = solution.stats["backsolve"]
    assert torch.equal(seen.phases["adjoint"].accepted, backwards["n_accepted"])
    # torchode counts none of its augmented term.
    after = bare.calls - forwards
    assert after > 0
    assert set(seen.phases["adjoint"].evaluations.tolist()) == {after}
    calls = field.calls
    refused = pytest.raises(errors.ContinuousAdjointError, match=rf"`{adjoint.__name__}`.*Use `AutoDiffAdjoint`")
    with refused, tap.observe(BOTH):
        _backsolve(adjoint, field)
    assert field.calls == calls


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_sample_under_a_continuous_adjoint_has_the_gradient_that_it_has_without(adjoint):
    term = tap.LocalSample(tap.LocalError(), draw="steps")
    field, other = Field(), Field()
    with tap.observe(term, key=lambda n: 0.5) as seen:
        _backsolve(adjoint, field)
    found = gradient(seen.penalty, field)
    assert found.norm() > 0
    assert torch.isfinite(found).all()
    if adjoint is torchode.JointBacksolveAdjoint:
        assert seen.values["sampled_local_error"].shape == (1,)  # the whole batch is one state to it
        return
    with tap.observe(term, key=lambda n: 0.5) as wanted:
        solve(other, tolerance=1e-5, first=0.3)
    torch.testing.assert_close(seen.values["sampled_local_error"], wanted.values["sampled_local_error"])
    torch.testing.assert_close(found, gradient(wanted.penalty, other), rtol=1e-9, atol=0)


# --- Aligned ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("first", [None, 0.5])
@pytest.mark.parametrize("backwards", [pytest.param(False, marks=proves("torchode", "dopri5", TERMS, "parity")), True])
def test_aligned_samples_are_those_of_torchdiffeq(backwards, first):
    torchdiffeq = pytest.importorskip("torchdiffeq")
    # The first step of the rule is so short that its error would be mostly rounding.
    # An error as large as the tolerance is a difference of states: of 1e-5, their rounding is 1e-10.
    terms, tolerance = sum(TERMS.values()), 1e-3 if first is None else 1e-5
    field = Field()
    with tap.observe(terms, align=True) as seen:
        solve(
            field, controller=pid, backwards=backwards, first=first, tolerance=tolerance
        )  # whose own steps are others
    for i in range(len(Y0)):
        other = Field()
        times = torch.stack([STARTS[i], ENDS[i]])
        with tap.observe(terms, align=True) as alone:
            torchdiffeq.odeint(
                other,
                Y0[i],
                times.flip(0) if backwards else times,
                rtol=tolerance,
                atol=tolerance,
                method="dopri5",
                options=None if first is None else {"first_step": first},
            )
        assert int(seen.stats.accepted[i]) == alone.stats.accepted
        assert int(seen.stats.rejected[i]) == alone.stats.rejected
        for name, value in alone.values.items():
            assert seen.values[name][i].item() == pytest.approx(value.item(), rel=1e-9)
            wanted = gradient(value, other)
            assert (gradient(seen.values[name][i], field) - wanted).norm() <= 1e-7 * wanted.norm()


def test_align_wants_tolerances():
    term = torchode.ODETerm(Field())
    adjoint = AutoDiffAdjoint(torchode.Dopri5(term), torchode.FixedStepController())
    with tap.observe(align=True), pytest.raises(errors.AlignError, match=r"`FixedStepController`.*has no tolerances"):
        adjoint.solve(spans(), dt0=torch.full((5,), 0.1, dtype=torch.float64))
