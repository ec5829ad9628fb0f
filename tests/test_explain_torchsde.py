"""Every illness that an adaptive solve of an SDE can have is found, and a healthy one has none."""

from dataclasses import replace

import pytest

pytest.importorskip("torchsde")

from tests.illnesses_torchsde import HEALTHY, ILL, by_torchsde


def _illnesses(seen):
    (explained,) = seen.explain()
    assert explained.place.place.startswith("illnesses_torchsde.py:")
    assert explained.place.adapter == "torchsde"
    return [verdict.illness for verdict, _ in explained.verdicts]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("illness", ILL)
def test_solve_of_an_sde_has_exactly_its_illness(illness, seed):
    by = illness.removeprefix("one ") if illness.startswith("one ") else None
    seen = by_torchsde(ILL[illness], by, seed=seed)
    assert _illnesses(seen) == [illness]
    ((verdict, _),) = seen.explain()[0].verdicts
    assert any(character.isdigit() for character in verdict.finding)
    if by is not None:
        assert f"{by.capitalize()} 2 of 8 has" in verdict.finding


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_solve_of_an_sde_has_no_verdict(name, seed):
    seen = by_torchsde(HEALTHY[name], ("sample", "part"), seed=seed)
    assert _illnesses(seen) == []
    assert seen.stats.accepted > 3


def test_dropout_in_the_drift_of_an_sde_is_the_noise_of_the_field():
    seen = by_torchsde(HEALTHY["geometric"], training=True)
    assert _illnesses(seen) == ["field noise"]
    assert "Dropout" in seen.explain()[0].verdicts[0][0].finding


def test_first_step_of_the_right_size_cures_the_growth_by_steps_of_1_4():
    seen = by_torchsde(ILL["first step"])
    told = seen.explain()[0].verdicts[0][0].remedy
    cured = by_torchsde(replace(ILL["first step"], first=float(told.split("about ")[1].split()[0])))
    assert _illnesses(cured) == []
    assert cured.stats.evaluations < 0.3 * seen.stats.evaluations


def test_fixed_steps_of_an_sde_are_told():
    (explained,) = by_torchsde(HEALTHY["geometric"], adaptive=False).explain()
    assert explained.limits == "fixed steps"
    assert by_torchsde(HEALTHY["geometric"]).explain()[0].limits == "nothing"
