"""An adaptive Runge-Kutta loop in NumPy and its adapter: what the core's own tests observe, without a framework."""

import numpy as np

from solvertap import Step
from solvertap.adapting import Adapter, Stages, Tableau, open_solve

# Dormand and Prince, A family of embedded Runge-Kutta formulae, J. Comput. Appl. Math. 6 (1980), table 2.
C = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
TABLEAU = Tableau(c=C, b=(*A[-1], 0), a=A)
B_EMBEDDED = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)


def rk_step(field, t, y, h):
    """y1, its error and the slopes."""
    slopes = []
    for c, row in zip(C, A, strict=True):
        state = y + h * sum((a * k for a, k in zip(row, slopes, strict=True)), np.zeros_like(y))
        slopes.append(field(t + c * h, state))
    embedded = y + h * sum(b * k for b, k in zip(B_EMBEDDED, slopes, strict=True))
    return state, state - embedded, np.stack(slopes)


def solve(field, y0, t0, t1, rtol=1e-6, atol=1e-6, h=0.1, tap=None):
    """The state at t1."""
    t, y = t0, np.asarray(y0)
    while t < t1:
        h = min(h, t1 - t)
        y1, error, slopes = rk_step(field, t, y, h)
        ratio = float(np.sqrt(np.mean((error / (atol + rtol * np.maximum(abs(y), abs(y1)))) ** 2)))
        if tap is not None:
            tap(t, t + h, y, y1, error, slopes, ratio <= 1)
        if ratio <= 1:
            t, y = (t1 if t + h >= t1 else t + h), y1
        h *= min(10.0, max(0.2, 0.9 * max(ratio, 1e-10) ** -0.2))
    return y


class NumpyAdapter(Adapter):
    name = "numpy-loop"
    module = __name__

    def attach(self, patches):
        import sys

        patches.replace(sys.modules[__name__], "solve", self.tapped)

    def tapped(self, original):
        def tapped_solve(field, y0, t0, t1, rtol=1e-6, atol=1e-6, h=0.1):
            opened = open_solve(self, like=np.asarray(y0))
            if opened is None:
                return original(field, y0, t0, t1, rtol, atol, h)

            def tap(a, b, y, y1, error, slopes, accepted):
                opened.counts.evaluations += len(C)
                stages = Stages(slopes=slopes, tableau=TABLEAU)
                opened.step(
                    Step(t0=a, t1=b, y0=y, y1=y1, error=error, rtol=rtol, atol=atol, stages=stages, accepted=accepted)
                )

            with opened:
                return original(field, y0, t0, t1, rtol, atol, h, tap)

        return tapped_solve
