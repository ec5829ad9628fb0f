"""Terms as text: what is read, and where a mistake is pointed at."""

import pytest

import solvertap as tap
from solvertap import errors


def _pairs(text, k=0):
    return tap.parse_term(text)(k).pairs()


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("local_error", tap.LocalError()),
        ("local-error", tap.LocalError()),
        ("100*local_error", 100 * tap.LocalError()),
        (" 1e2 * local_error ", 100 * tap.LocalError()),
        (".5*stiffness:max", 0.5 * tap.Stiffness(reduce="max")),
        ("100*local_error + 0.1*stiffness:max", 100 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")),
        (
            "local_error:scale=raw:weigh_by_step=false:mean",
            tap.LocalError(scale="raw", weigh_by_step=False, reduce="mean"),
        ),
        ("local_error:rtol=1e-3:atol=0", tap.LocalError(rtol=1e-3, atol=0.0)),
        ("stiffness:stability_size=solver", tap.Stiffness(stability_size="solver")),
        ("local_error+local_error:max:name=peak", tap.LocalError() + tap.LocalError(reduce="max", name="peak")),
        ("kinetic_energy + squared_local_error", tap.KineticEnergy() + tap.SquaredLocalError()),
    ],
)
def test_text_is_read_as_the_term_it_names(text, term):
    assert _pairs(text) == term.pairs()


def test_weight_of_three_numbers_is_annealed():
    weights = [_pairs("100:10:2000*local_error", k)[0][0] for k in (0, 1000, 2000)]
    assert weights == pytest.approx([100, 1000**0.5, 10])
    assert weights == pytest.approx([tap.anneal(100, 10, 2000)(k) for k in (0, 1000, 2000)])


@pytest.mark.parametrize(
    ("text", "kind", "words", "place"),
    [
        ("", errors.InvalidInputError, "name of a term is wanted", 0),
        ("100*local_eror", errors.UnknownNameError, "'local_eror'; the choices are: kinetic_energy, local_error", 4),
        (
            "local_error + 0.1*stiffness:maximum",
            errors.UnknownNameError,
            "'maximum'; the choices are: sum, mean, max",
            28,
        ),
        ("local_error +", errors.InvalidInputError, "name of a term is wanted", 13),
        ("local_error stiffness", errors.InvalidInputError, "a `+` and another term", 12),
        ("100 local_error", errors.InvalidInputError, "stands a `*`", 4),
        ("100:10*local_error", errors.InvalidInputError, "START:STOP:STEPS", 6),
        ("1:0:9*local_error", errors.InvalidInputError, "`stop` is 0.0", 0),
        ("-1*local_error", errors.InvalidInputError, "name of a term is wanted", 0),
        ("local_error:scale", errors.InvalidInputError, "`scale=...`", 17),
        ("local_error:scale=tol", errors.InvalidInputError, "`scale` is 'tol'", 12),
        ("local_error:rtol=+", errors.InvalidInputError, "a value is wanted", 17),
        ("local_error:", errors.InvalidInputError, "an option is wanted", 12),
        ("local_error + local_error:max", errors.InvalidInputError, "named 'local_error'", 0),
        ("local_error ; stiffness", errors.InvalidInputError, "a `+` and another term", 12),
    ],
)
def test_mistake_is_pointed_at(text, kind, words, place):
    with pytest.raises(kind) as caught:
        tap.parse_term(text)
    what, shown, pointer = str(caught.value).split("\n")
    assert words in what
    assert shown == f"    {text}"
    assert pointer == " " * (4 + place) + "^"


def test_sum_of_a_plugin_takes_no_option(monkeypatch):
    monkeypatch.setitem(tap.plugins().terms, "mine", tap.LocalError() + tap.Stiffness())
    assert [term.name for _, term in _pairs("3*mine")] == ["local_error", "stiffness"]
    with pytest.raises(errors.InvalidInputError, match="takes no option"):
        tap.parse_term("mine:max")
