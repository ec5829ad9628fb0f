import importlib.util
import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")

if importlib.util.find_spec("jax") is not None:
    import jax

    jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True)
def _nothing_stays_attached():
    yield
    import solvertap
    from solvertap.plugins import attachment

    solvertap.detach()
    attachment._misfits.clear()  # what a test did to a library is no reason to leave it alone in the next
