"""What JAX compiles to keep is left as it is under `regularize`: saved and exported programs, its persistent cache."""

import subprocess
import sys

import pytest

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")

import jax.numpy as jnp
import numpy as np
from jax import export
from jax.experimental import serialize_executable

import solvertap as tap
from tests.faults import fault

W = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2)))


def _loss(w):
    # Without `throw`, by which diffrax itself calls back.
    field = diffrax.ODETerm(lambda t, y, args: jnp.tanh(y @ w))
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    settings = {"stepsize_controller": controller, "max_steps": 8, "adjoint": diffrax.DirectAdjoint(), "throw": False}
    return jnp.mean(diffrax.diffeqsolve(field, diffrax.Bosh3(), 0.0, 1.0, 0.5, jnp.ones((2, 2)), **settings).ys ** 2)


@fault(
    "a program is lowered ahead of time or exported under `regularize`, with a term or without",
    "it can be saved and loaded: it counts nothing and carries no penalty, and `left_out` says so",
)
@pytest.mark.slow
@pytest.mark.parametrize("term", [None, "100*local_error"])
def test_saved_and_exported_programs_are_the_bare_ones(term):
    plain = jax.jit(jax.grad(_loss))(W)
    with tap.regularize(term) as regularizer:
        step = jax.jit(jax.grad(_loss))
        trained = step(W)  # what is traced already is lowered once more
        jax.effects_barrier()
        assert regularizer.left_out == {}
        saved = serialize_executable.serialize(step.lower(W).compile())
        exported = export.export(step)(W)
        (reason,) = regularizer.left_out
    assert "ahead of time" in reason
    assert "callback" not in exported.mlir_module()  # which could not be serialized
    np.testing.assert_array_equal(serialize_executable.deserialize_and_load(*saved)(W), plain)
    np.testing.assert_allclose(exported.call(W), plain, rtol=1e-12)
    assert jnp.array_equal(trained, plain) == (term is None)


@fault(
    "solves are counted under `regularize` without a term, and JAX keeps what it compiles in its persistent cache",
    "the programs are kept as without solvertap; they are not counted, and `left_out` says so",
)
@pytest.mark.slow
def test_persistent_cache_keeps_what_is_compiled_without_a_term(tmp_path):
    code = (
        "import jax, jax.numpy as jnp, diffrax, solvertap as tap\n"
        f"jax.config.update('jax_compilation_cache_dir', {str(tmp_path)!r})\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
        "jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)\n"
        "with tap.regularize() as regularizer:\n"
        "    def my_program(y):\n"
        "        terms, solver = diffrax.ODETerm(lambda t, y, _: -y), diffrax.Euler()\n"
        "        return diffrax.diffeqsolve(terms, solver, 0.0, 1.0, 0.5, y, throw=False).ys\n"
        "    jax.jit(my_program)(jnp.ones(2)).block_until_ready()\n"
        "print(len(regularizer.left_out), 'persistent' in str(regularizer.left_out))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1 True\n", done.stderr
    assert any("my_program" in path.name for path in tmp_path.iterdir())
