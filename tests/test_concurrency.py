"""Observations among threads, tasks and processes that solve at the same time."""

import asyncio
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint
from torchdiffeq._impl import rk_common, solvers

import solvertap as tap
from solvertap import adapting, errors
from solvertap.plugins import registry
from tests.faults import fault

TERM = tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
TIMES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
Y0 = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
CALL = {"rtol": 1e-6, "atol": 1e-6, "method": "dopri5", "options": {"first_step": 0.5}}  # the first is rejected
PATIENCE = 60  # seconds, after which what still waits is taken to wait forever
RUNGE_KUTTA = rk_common.RKAdaptiveStepsizeODESolver
PATCHED = [
    (rk_common, "_runge_kutta_step"),
    (RUNGE_KUTTA, "_before_integrate"),
    (RUNGE_KUTTA, "_adaptive_step"),
    (solvers.AdaptiveStepsizeODESolver, "integrate"),
]


def _solve(rate=1.0, meet=lambda: None):
    """A solve that calls `meet` at every evaluation of its field."""

    def field(t, y):
        meet()
        return 4 * torch.tanh(rate * y) + 20 * torch.relu(t - 0.5) - y

    return odeint(field, Y0, TIMES, **CALL)


def _observed(rate, meet=lambda: None):
    """The solution, the penalty, its gradient, and the counts."""
    rate = torch.tensor(rate, dtype=torch.float64, requires_grad=True)
    with tap.observe(TERM) as seen:
        meet()
        y = _solve(rate, meet)
    (gradient,) = torch.autograd.grad(seen.penalty, rate)
    return y.tolist(), seen.penalty.item(), gradient.item(), seen.stats


def _in_lockstep(barrier, meetings=50):
    """What makes the threads wait for each other before they solve, and at each of their first evaluations."""
    left = iter(range(meetings))

    def meet():
        if next(left, None) is not None:
            barrier.wait(PATIENCE)

    return meet


def _at_the_same_time(rates):
    barrier = threading.Barrier(len(rates))
    with ThreadPoolExecutor(len(rates)) as pool:
        return list(pool.map(lambda rate: _observed(rate, _in_lockstep(barrier)), rates))


@fault("threads solve at the same time", "each observation sees the solves of its own thread, bitwise as if alone")
def test_threads_solving_in_lockstep_see_each_their_own():
    rates = [0.5, 1.0, 1.5]
    alone = [_observed(rate) for rate in rates]
    assert len({stats.evaluations for *_, stats in alone}) == len(rates)
    assert all(stats.rejected > 0 and stats.evaluations > 50 for *_, stats in alone)
    assert _at_the_same_time(rates) == alone


@fault("a thread starts inside a block", "it sees nothing of the block, which belongs to whoever opened it")
def test_thread_started_inside_a_block_is_outside_it():
    with tap.observe(TERM) as seen, ThreadPoolExecutor(1) as pool:
        y = pool.submit(_solve).result()
        assert seen.stats.solves == 0
        assert torch.equal(_solve(), y)
    assert seen.stats.solves == 1


@fault("tasks of `asyncio` take turns between their solves", "each observation sees the solves of its own task")
def test_tasks_that_take_turns_see_each_their_own():
    turns = []

    async def task(rate, solves):
        with tap.observe(TERM) as seen:
            for _ in range(solves):
                _solve(rate)
                turns.append(rate)
                await asyncio.sleep(0)
        return seen

    async def both():
        with tap.observe() as around:
            return around, *await asyncio.gather(task(0.5, 2), task(1.5, 3))

    around, *seen = asyncio.run(both())
    assert turns == [0.5, 1.5, 0.5, 1.5, 1.5]
    assert [each.stats.solves for each in seen] == [2, 3]
    for each, rate in zip(seen, (0.5, 1.5), strict=True):
        assert {solve.stats for solve in each.solves} == {_observed(rate)[3]}
    assert around.stats.solves == 5  # a task that starts inside a block is inside it


def test_thread_of_a_task_is_inside_the_block_of_the_task():
    async def task():
        with tap.observe(TERM) as seen:
            await asyncio.to_thread(_solve)
        return seen

    assert asyncio.run(task()).stats.solves == 1


def _child(connection):
    """Whole solves, and what a block that was open at the fork has seen of them."""
    connection.send((_observed(0.5), _at_the_same_time([0.5, 1.5])))


def _of_process(method):
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there,))
    process.start()
    there.close()
    assert here.poll(PATIENCE)
    result = here.recv()
    process.join(PATIENCE)
    assert process.exitcode == 0
    return result


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX says that it does not like it; no JAX runs in the child
@fault("a process is forked or spawned inside a block", "it solves and observes for itself; the block sees its own")
def test_process_started_inside_a_block_solves_for_itself(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this platform cannot fork")
    with tap.observe() as seen:
        _solve()
        alone, together = _of_process(method)
        assert seen.stats.solves == 1
        expected = _observed(0.5)
    assert alone == expected
    assert together == [expected, _observed(1.5)]
    assert seen.stats.solves == 2


class Slow(adapting.Adapter):
    """Adapts nothing, and takes so long that every thread comes while the first attaches it."""

    name, module = "slow", __name__

    def __init__(self):
        self.times_attached = 0

    def attach(self, patches):
        self.times_attached += 1
        time.sleep(0.05)


@pytest.fixture
def slow():
    adapter = Slow()
    tap.register(adapter)
    yield adapter
    tap.detach()
    del registry.plugins().adapters[adapter.name]


@fault("several threads open the first block at once", "the adapters attach once, and every thread is observed")
def test_threads_that_attach_at_once_attach_once_and_everything_is_given_back(slow):
    *_, alone = _observed(1.0)
    tap.detach()
    originals = [vars(owner)[name] for owner, name in PATCHED]
    barrier = threading.Barrier(4)

    def attach_and_solve(_):
        barrier.wait(PATIENCE)
        return _observed(1.0)[3]

    with ThreadPoolExecutor(4) as pool:
        for times in range(2, 7):  # it was attached once before
            assert not tap.attached()
            assert list(pool.map(attach_and_solve, range(4))) == [alone] * 4
            assert slow.times_attached == times
            replacements = [vars(owner)[name] for owner, name in PATCHED]
            assert not any(new is old for new, old in zip(replacements, originals, strict=True))
            tap.detach()
            found = [vars(owner)[name] for owner, name in PATCHED]
            assert all(new is old for new, old in zip(found, originals, strict=True))


def _interrupted(do, observe):
    """A solve in another thread, while `do` is done here in the middle of it."""
    middle, done, evaluations = threading.Event(), threading.Event(), iter(range(1000))

    def meet():
        if next(evaluations) == 30:
            middle.set()
            assert done.wait(PATIENCE)

    def work():
        if not observe:
            return _solve(meet=meet), None
        with tap.observe(TERM) as seen:
            return _solve(meet=meet), seen

    with ThreadPoolExecutor(1) as pool:
        solving = pool.submit(work)
        assert middle.wait(PATIENCE)
        do()
        done.set()
        return solving.result()


def _attach():
    with tap.observe():
        pass
    assert "torchdiffeq" in tap.attached()


@pytest.mark.parametrize("observe", [True, False])
@pytest.mark.parametrize("do", [tap.detach, _attach])
@fault("another thread attaches or detaches in the middle of a solve", "the solution is bitwise the bare one")
def test_running_solve_is_bitwise_right_whoever_attaches_or_detaches(do, observe):
    tap.detach()
    bare = _solve()
    y, _ = _interrupted(do, observe)
    assert torch.equal(y, bare)


@fault("another thread detaches in the middle of an observed solve", "its penalty is whole, or there is none")
def test_penalty_of_a_solve_that_is_detached_is_whole_or_there_is_none():
    with tap.observe(TERM) as expected:
        _solve()
    _, seen = _interrupted(tap.detach, observe=True)
    try:
        penalty = seen.penalty
    except errors.NothingObservedError:
        return
    assert penalty == expected.penalty
    assert seen.stats == expected.stats
