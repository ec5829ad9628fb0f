"""Wrong input: one sentence that says what was asked, what was found and what to do."""

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest

import solvertap as tap
from solvertap import errors
from tests.faults import fault

SOLVERTAP = [sys.executable, "-c", "from solvertap.cli import main; main()"]
PLAIN = os.environ | {"COLUMNS": "400", "NO_COLOR": "1"}
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture
def refused(monkeypatch, capsys):
    """Gives what the command says of wrong input: one line, exit code 2."""
    pytest.importorskip("typer")
    from solvertap.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["solvertap", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        assert (done.value.code, said.out) == (2, "")
        (line,) = said.err.splitlines()
        return line

    return run


@fault("a weight is NaN, infinite or negative", "it is refused where it is given")
@pytest.mark.parametrize(
    "weight", [NAN, INFINITY, -INFINITY, -1, -1.0, np.float32(-1), np.float64(NAN), 1j, Fraction(-1, 2), 10**400]
)
def test_number_that_is_no_weight_is_refused(weight):
    for multiply in (lambda: weight * tap.LocalError(), lambda: (2 * tap.LocalError()) * weight):
        with pytest.raises(errors.InvalidInputError, match=r"The weight of a term is .*zero or more"):
            multiply()


def test_weights_that_overflow_together_are_refused():
    with pytest.raises(errors.InvalidInputError, match="is inf"):
        1e200 * (1e200 * tap.LocalError())


@pytest.mark.parametrize("weight", [0, 0.0, 1, True, np.float32(2), Fraction(1, 2), 1e300])
def test_number_that_is_a_weight_is_taken(weight):
    assert (weight * tap.LocalError()).pairs() == ((weight, tap.LocalError()),)


def test_arrays_are_not_looked_at():
    class Watched:
        def __mul__(self, other):
            return self

        def __ge__(self, other):
            raise AssertionError("looked at")

        __lt__ = __le__ = __gt__ = __bool__ = __float__ = __ge__

    weight = Watched()
    assert (tap.LocalError() * weight).pairs() == ((weight, tap.LocalError()),)


@pytest.mark.parametrize("numbers", [(NAN, 1, 2), (1, INFINITY, 2), (1, -1, 2), (1, 1, NAN)])
def test_schedule_of_numbers_that_are_no_weights_is_refused(numbers):
    with pytest.raises(errors.InvalidInputError, match="needs a positive, finite number"):
        tap.anneal(*numbers)


@pytest.mark.parametrize("changes", [{"rtol": "abc"}, {"weigh_by_step": "banana"}, {"rtol": NAN}, {"atol": -1}])
def test_term_refuses_a_value_of_another_type(changes):
    (name,) = changes
    with pytest.raises(errors.InvalidInputError, match=f"`{name}` is "):
        tap.LocalError(**changes)


def test_unknown_preset_is_answered_with_the_names_there_are():
    with pytest.raises(errors.UnknownNameError, match="No preset is named 'pal21'; the choices are: pal21-mnist-ode"):
        tap.PRESETS["pal21"]
    with pytest.raises(KeyError, match=r"did you mean 'pal21-mnist-ode-error'\?"):
        tap.PRESETS["pal21-mnist-ode-eror"]
    assert tap.PRESETS.get("pal21") is None
    assert "pal21" not in tap.PRESETS
    assert list(pickle.loads(pickle.dumps(dict(tap.PRESETS)))) == list(tap.PRESETS)


@fault("`observe(...)` is used without `with`", "what is asked of it is answered with how to open it")
@pytest.mark.parametrize("name", ["penalty", "stats", "values", "trace", "solves", "phases"])
def test_block_that_is_not_open_says_how_to_open_it(name):
    block = tap.observe(tap.LocalError())
    with pytest.raises(errors.NotEnteredError, match=f"with observe.* as seen:`, and ask for `seen.{name}`"):
        getattr(block, name)
    assert not hasattr(block, name)
    assert not hasattr(block, "nothing_of_the_kind")
    copy.copy(block)


@fault("`regularize(...)` is made and never started", "a warning says that nothing was regularized")
def test_regularize_that_is_never_started_is_a_warning():
    with pytest.warns(RuntimeWarning, match=r"never started, so that nothing was regularized\. Write `with"):
        tap.regularize("100*local_error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tap.regularize("100*local_error"):
            pass
        with pytest.raises(errors.UnknownNameError):
            tap.regularize("100*locl_error")


def test_names_of_the_package_are_its_public_ones():
    names = set(dir(tap))
    assert {*tap.__all__, "__version__"} == names
    assert not names & {"blocks", "phases", "regularization", "within"}
    assert all(hasattr(tap, name) for name in names)


def test_version_is_printed():
    pytest.importorskip("typer")
    done = subprocess.run([*SOLVERTAP, "--version"], capture_output=True, text=True, env=PLAIN, check=True)
    assert done.stdout == f"solvertap {tap.__version__}\n"


@fault("an option is given a value of another type", "one sentence names the option and the value, with exit code 2")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("compare spiral --epochs x", "`--epochs` is 'x'; give an integer."),
        ("compare spiral --seed=1 --seed b", "`--seed` is 'b'; give an integer."),
        ("compare spiral --tolerance tiny", "`--tolerance` is 'tiny'; give a number."),
        ("compare spiral --tolerance nan", "`--tolerance` is nan; give a positive number."),
        ("compare spiral --method stiffness:max=nan", "The weight 'nan' of `stiffness:max=nan` is no positive number"),
        ("compare spiral --method local-error=1e999", "The weight '1e999' of `local-error=1e999` is no positive"),
        ("compare spiral --optimizer adam=-1", "`--optimiser` is 'adam=-1'; give adam=RATE"),
        ("compare spiral --epoch 3", "`--epoch` is no option of `solvertap compare`; did you mean `--epochs`"),
        ("compare sprial", "No problem is named 'sprial' (did you mean 'spiral'?); the choices are: mnist, "),
        ("compare spiral --method locl-error", "named 'locl-error' (did you mean 'local-error'?)"),
        ("compare spiral --backend difrax", "named 'difrax' (did you mean 'diffrax'?)"),
        ("comparre", "No such command 'comparre'. Did you mean 'compare'?"),
        ("compare", "Missing argument"),
        ("doctor --device", "requires an argument"),
        ("doctor torchdifeq", "No adapter is named 'torchdifeq' (did you mean 'torchdiffeq'?)"),
    ],
)
def test_command_line_that_cannot_be_read_is_answered_in_one_sentence(arguments, words, refused):
    assert words in refused(*arguments.split())


def test_device_that_is_not_there_is_no_fault_of_an_adapter(refused):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchdiffeq")
    device = "cuda" if not torch.cuda.is_available() else "cuda:99"
    words = refused("doctor", "torchdiffeq", "--device", device)
    assert f"`--device` is {device!r}, which 'torchdiffeq' does not find here (" in words


@fault("the results that `compare --resume` goes on with are cut off, or something else", "it says so, and keeps them")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"problem": "spiral", ', "is no JSON, or only the beginning of some"),
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "holds no results"),
        (b"{}", "holds no results"),
        (b'{"problem": 3, "runs": []}', "holds 3"),
        (b'{"problem": "spiral", "runs": 7}', "holds no results"),
    ],
    ids=repr,
)
def test_results_that_cannot_be_read_are_said_and_kept(tmp_path, text, words):
    path = tmp_path / "results.json"
    path.write_bytes(text)
    with pytest.raises(errors.InvalidInputError, match=words):
        _resumed(tmp_path)
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    "change", [{"seed": "x"}, {"losses": "many"}, {"losses": ["x"]}, {"trace": []}, {"more": 1}, {"metric": []}]
)
def test_results_whose_runs_are_of_another_shape_are_said_and_kept(tmp_path, change):
    from solvertap_lab.results.record import as_text
    from solvertap_lab.training.run import Run

    path = tmp_path / "results.json"
    path.write_text(as_text(_comparison(), [Run("torchdiffeq", "vanilla", 1, metric=NAN, losses=[1.0, NAN])]))
    (run,) = _resumed(tmp_path)
    assert np.isnan([run.metric, run.losses[1]]).all()
    document = json.loads(path.read_text())
    document["runs"][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(errors.InvalidInputError, match="holds a run that `solvertap compare` has not written"):
        _resumed(tmp_path)
    document["runs"] = ["run"]
    path.write_text(json.dumps(document))
    with pytest.raises(errors.InvalidInputError, match="has not written: 'run'"):
        _resumed(tmp_path)


def _comparison():
    pytest.importorskip("torchdiffeq")
    from solvertap_lab.problems.spiral import Spiral
    from solvertap_lab.training.backends import choose_backends
    from solvertap_lab.training.comparison import Comparison
    from solvertap_lab.training.methods import choose_method

    problem = Spiral()
    methods = [choose_method("vanilla", problem)]
    return Comparison(problem, choose_backends(["torchdiffeq"], problem), methods, [1], 1, 1, 1e-3, False, 64)


def _resumed(folder):
    from solvertap_lab.results.record import read_runs

    return read_runs(folder, _comparison())


def test_resuming_on_the_command_line_says_it_too(tmp_path, refused):
    (tmp_path / "results.json").write_text("[]")
    words = refused("compare", "spiral", "--backend", "torchdiffeq", "--out", tmp_path, "--resume")
    assert "holds no results of `solvertap compare`; move it away" in words
