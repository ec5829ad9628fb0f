"""`jax.jit` for a program that runs a few times, whose optimization would take longer than it runs."""

from functools import partial

import jax

# Not where two programs are compared bit by bit: that is a promise about the programs that users compile.
quick_jit = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
)
