import pickle
from dataclasses import replace

import numpy as np
import pytest

import solvertap as tap
from solvertap import LocalError, Step, Stiffness, errors
from solvertap.solves.fold import Fold
from tests.faults import fault


def _steps(values, hs):
    return [
        Step(t0=0.0, t1=h, y0=np.zeros(2), y1=np.zeros(2), error=np.full(2, value), rtol=0.0, atol=1.0)
        for value, h in zip(values, hs, strict=True)
    ]


@pytest.mark.parametrize("weigh_by_step", [True, False])
@pytest.mark.parametrize(("reduce", "function"), [("sum", np.sum), ("mean", np.mean), ("max", np.max)])
def test_fold_reduces_the_accepted_steps(reduce, function, weigh_by_step):
    values, hs = np.array([0.3, 0.9, 0.1]), np.array([0.5, 0.1, 1.0])
    fold = Fold((LocalError(reduce=reduce, weigh_by_step=weigh_by_step),))
    carry = fold.start(np.zeros(2))
    for step in _steps(values, hs):
        carry = fold.update(carry, step)
    expected = function(values * hs if weigh_by_step else values)
    assert fold.values(carry)[fold.terms[0]] == pytest.approx(expected, rel=1e-15)
    assert carry.accepted == 3


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_no_step_is_worth_zero(reduce):
    fold = Fold((LocalError(reduce=reduce),))
    assert fold.values(fold.start(np.zeros(2)))[fold.terms[0]] == 0


def test_rejected_steps_count_and_weigh_nothing_whether_the_flag_is_a_bool_or_an_array():
    fold = Fold((LocalError(), LocalError(name="peak", reduce="max")))
    flags = [True, False, True]
    carries = []
    for convert in (bool, np.asarray):
        carry = fold.start(np.zeros(2))
        for step, flag in zip(_steps([0.2, 50.0, 0.1], [1.0, 1.0, 1.0]), flags, strict=True):
            carry = fold.update(carry, replace(step, accepted=convert(flag)))
        carries.append(carry)
    for carry in carries:
        assert (int(carry.accepted), int(carry.rejected)) == (2, 1)
        assert [float(total) for total in carry.totals] == pytest.approx([0.3, 0.2])


def test_penalty_of_a_float32_state_is_float32():
    step = Step(t0=0.0, t1=0.5, y0=np.zeros(2, "f4"), y1=np.ones(2, "f4"), error=np.ones(2, "f4"), rtol=1.0, atol=1.0)
    fold = Fold((LocalError(),))
    assert fold.update(fold.start(step.y0), step).totals[0].dtype == np.float32


def test_terms_add_and_scale():
    error, stiff = LocalError(), Stiffness(reduce="max")
    term = 2 * (100 * error + stiff * 0.1) + 0
    assert term.pairs() == ((200, error), (0.2, stiff))
    assert sum([error, stiff]).pairs() == ((1.0, error), (1.0, stiff))


def test_weight_may_be_an_array_and_stays_whole():
    (weight, _), *_ = (np.asarray([2.0]) * LocalError()).pairs()
    assert weight.shape == (1,)


def test_terms_hash_by_their_settings_so_that_a_compiled_solve_is_compiled_once():
    assert Fold((LocalError(),)) == Fold((LocalError(),))
    assert hash(Fold((LocalError(),))) == hash(Fold((LocalError(),)))
    assert LocalError() != LocalError(reduce="mean")


def test_two_different_terms_of_one_name_are_refused():
    with pytest.raises(errors.InvalidInputError, match="local_error"):
        LocalError() + LocalError(reduce="max")
    (LocalError() + LocalError(reduce="max", name="peak")).pairs()


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalError(reduce="median"),
        lambda: LocalError(scale="relative"),
        lambda: LocalError(rtol=-1.0),
        lambda: Stiffness(stability_size=0),
        lambda: LocalError() * Stiffness(),
        lambda: tap.observe("local_error"),
        lambda: tap.anneal(0, 1, 10),
        lambda: tap.anneal(1, 1, 0),
    ],
)
def test_meaningless_value_is_refused_in_one_sentence(make):
    with pytest.raises(errors.InvalidInputError) as refusal:
        make()
    assert str(refusal.value).endswith(".")
    assert isinstance(refusal.value, ValueError)


def test_schedule_runs_exponentially_from_start_to_stop():
    weight = tap.anneal(100, 10, 75)
    assert weight(0) == 100
    assert weight(75) == pytest.approx(10)
    # Pal21's code: lambda(k) = l0 exp(-k log(l0 / l1) / K)
    assert weight(30) == pytest.approx(100 * np.exp(-30 * np.log(100 / 10) / 75))
    assert weight(np.arange(3)).shape == (3,)


def test_own_term_is_a_function_of_the_step():
    kinetic = tap.term(lambda step: (step.y1**2).mean(), name="kinetic", reduce="mean")
    fold = Fold((kinetic,))
    step = Step(t0=0.0, t1=1.0, y0=np.ones(2), y1=np.full(2, 3.0))
    assert fold.values(fold.update(fold.start(step.y0), step))[kinetic] == 9


def _speed(step):
    return (step.y1**2).mean()


@fault("a term of a function is sent to another process", "it arrives as an equal one, if the function can be pickled")
def test_own_term_is_pickled_as_an_equal_one():
    own = tap.term(_speed, name="speed", reduce="max")
    for term in (own, tap.LocalSample(own)):
        pickled = pickle.loads(pickle.dumps(term))
        assert pickled == term
        assert hash(pickled) == hash(term)
    weighted = 0.5 * own + LocalError()
    assert pickle.loads(pickle.dumps(weighted)).pairs() == weighted.pairs()
    step = Step(t0=0.0, t1=1.0, y0=np.ones(2), y1=np.full(2, 3.0))
    assert pickle.loads(pickle.dumps(own)).measure(step) == 9


@pytest.mark.parametrize("name", [name for name in tap.PRESETS if not name.endswith("-text")])
def test_preset_runs_from_its_first_weight_to_its_last_and_has_the_formula_of_the_text_beside_it(name):
    preset, text = tap.PRESETS[name], tap.PRESETS[f"{name}-text"]
    for epoch, weight in ((0, preset.start), (preset.epochs, preset.stop)):
        assert [w for w, _ in preset.at(epoch).pairs()] == pytest.approx([weight * w for w, _ in preset.term.pairs()])
    assert preset.at(3, epochs=6).pairs()[0][0] == pytest.approx(np.sqrt(preset.start * preset.stop))
    assert (text.start, text.stop, text.epochs) == (preset.start, preset.stop, preset.epochs)
    # On any two steps the two formulas differ, unless it is the sum of the stiffness both write.
    measured = []
    for term in (preset.term, text.term):
        fold = Fold(tuple(step_term for _, step_term in term.pairs()))
        carry = fold.start(np.zeros(2))
        for size in (0.5, 0.25):
            field = lambda t, y: -7.0 * y  # noqa: E731  # whose stiffness is 7
            step = _steps([0.3], [size])[0]
            carry = fold.update(carry, replace(step, y1=np.ones(2), rtol=1e-3, atol=1e-3, field=field))
        measured.append(sum(w * fold.values(carry)[t] for w, t in term.pairs()))
    assert (measured[0] == pytest.approx(measured[1])) == (name == "pal21-spiral-sde-stiffness")


def test_stability_size_of_the_solver_is_asked_of_the_step():
    step = replace(_steps([0.3], [0.5])[0], y1=np.ones(2), field=lambda t, y: -7.0 * y)
    term = Stiffness(stability_size="solver")
    assert term.measure(replace(step, stability_size=3.5)) == pytest.approx(2.0)
    with pytest.raises(errors.NoEstimateError, match="give a number"):
        term.measure(step)
    with pytest.raises(errors.InvalidInputError, match="or 'solver'"):
        Stiffness(stability_size="tsit5")
