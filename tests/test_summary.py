"""What `solvertap run` says when a script has ended: of every method, and of a term that nothing took."""

import numpy as np
import pytest

pytest.importorskip("typer")

import solvertap as tap
from solvertap.cli.summary import sentences, table_of
from solvertap.cli.totals import Totals
from solvertap.solves.injection import Record
from solvertap.solves.stats import Stats
from tests.faults import fault

TERM = tap.parse_term("100:10:4*local_error")


def _record(kind="training", penalty=None, left_out=(), method="dopri5", evaluations=32, measuring=0):
    stats = Stats(1, 5, 1, evaluations, 0, measuring)
    values = {} if penalty is None else {"local_error": np.asarray(penalty / 100)}
    return Record(kind, "torchdiffeq", 4, stats, values, penalty, method, left_out)


def _told(*records, term=TERM, failed=0, carried=0):
    totals = Totals()
    with tap.regularize(term) as regularizer:
        pass
    regularizer.failed, regularizer.backward_passes["carried"] = failed, carried
    for record in records:
        regularizer.record(record)
        totals.add(record, record.penalty)
    return sentences(regularizer, totals, term), table_of(totals)


def test_table_has_a_row_for_each_method_and_the_samples_evaluations_apart():
    _, table = _told(*[_record(method="euler", evaluations=1)] * 500, *[_record(measuring=14)] * 12)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["method"] == ["torchdiffeq euler", "torchdiffeq dopri5"]
    assert columns["solves"] == ["500", "12"]
    assert columns["evaluations a solve"] == ["1.0", "32.0"]
    assert columns["for the terms"] == ["0.0", "14.0"]


def test_penalty_is_told_with_its_weights_and_the_passes_that_carried_it():
    (said,), _ = _told(_record(penalty=0.5), _record(penalty=0.3), carried=2)
    assert "2 solves: mean 0.4, 0.3 at the end (weights: local_error 100 to 10)" in said
    assert "added in 2 backward passes" in said


@fault(
    "a term was given, and no backward pass went through a solve",
    "the summary says that its gradient was added nowhere",
)
def test_penalty_that_no_backward_pass_carried_is_said_to_be_added_nowhere():
    (said,), _ = _told(_record(penalty=0.5))
    assert "no backward pass that trains went through them" in said


@fault(
    "a term was given, and no solve took it",
    "the summary says so and why, with the number of solves for each reason",
)
def test_term_that_no_solve_took_is_said_with_the_reason():
    (said, *reasons), _ = _told(_record(left_out=("fixed",)), _record(left_out=("fixed", "other")), _record())
    assert said.startswith("No solve took the term")
    assert reasons == ["2 solves went without a term: fixed", "1 solve went without a term: other"]


@fault(
    "a script trains through an `autograd.Function` of its own, in which the solves record no gradient",
    "the summary says that no solve took the term, since all were evaluations",
)
def test_term_of_a_script_with_evaluations_alone_is_said_to_be_taken_by_none():
    (said,), _ = _told(_record("evaluation"), _record("evaluation"))
    assert "gradients were recorded in none of them (2 evaluation)" in said
    assert not _told(_record("evaluation"), term=None)[0]


@fault(
    "every solve of a script under `solvertap run` fails",
    "the summary says that they failed, not that there were none",
)
def test_solves_that_failed_are_not_no_solves():
    (said,), _ = _told(failed=3)
    assert said.startswith("3 solves failed, and no other was seen")
    (said,), _ = _told(_record(), failed=1, term=None)
    assert said.startswith("1 solve failed;")
    assert _told(term=None)[0] == ["solvertap saw no solve."]
