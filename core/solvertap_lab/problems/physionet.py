"""Reading the text files of Physionet's challenge of 2012."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from solvertap.errors import InvalidInputError

from .series import Series, on_grid

# https://physionet.org/content/challenge-2012/1.0.0/: 36 that are measured over time, and the weight, which is both.
FEATURES = (
    *("Albumin", "ALP", "ALT", "AST", "Bilirubin", "BUN", "Cholesterol", "Creatinine", "DiasABP", "FiO2", "GCS"),
    *("Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "Mg", "MAP", "MechVent", "Na", "NIDiasABP", "NIMAP"),
    *("NISysABP", "PaCO2", "PaO2", "pH", "Platelets", "RespRate", "SaO2", "SysABP", "Temp", "TroponinI"),
    *("TroponinT", "Urine", "WBC", "Weight"),
)
_FEATURE = {name: index for index, name in enumerate(FEATURES)}
# What is told once, on admission; a few lines have no name at all.
_DESCRIPTORS = ("RecordID", "Age", "Gender", "Height", "ICUType", "")
_HEADER = "Time,Parameter,Value"
_UNKNOWN = -1.0  # how the files write a weight that nobody took

Measurement = tuple[int, int, float]


def physionet(folder: Path) -> Series:
    """The 37 series of each record of a folder, at the 49 hours from 0 to 48: each value at its nearest hour.

    Args:
        folder: has the records, `132539.txt` and its like, or has them in `set-a`, `set-b`, `set-c`. A record of a
            patient of whom nothing was measured is left out.

    Raises:
        InvalidInputError: the folder does not exist or holds no record, or a file is none; the message has the line.
    """
    files = sorted(path for pattern in ("*.txt", "set-?/*.txt") for path in folder.glob(pattern) if path.stem.isdigit())
    records = [record for record in map(_record, files) if record]
    if not records:
        found = "is no folder" if not folder.is_dir() else "holds no record"
        raise InvalidInputError(
            f"The data folder {str(folder)!r} {found}; give one with the text files of Physionet's challenge of 2012, "
            "`132539.txt` and its like, or with `set-a`, or leave `--data` out."
        )
    patient = np.repeat(np.arange(len(records)), [len(record) for record in records])
    point, feature, value = np.array([measurement for record in records for measurement in record]).T
    return on_grid(point.astype(int), patient, feature.astype(int), value, len(FEATURES))


def _record(path: Path) -> list[Measurement]:
    """Hour, feature and value of everything measured."""
    first, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    if first != _HEADER:
        raise InvalidInputError(
            f"The file {str(path)!r} is no record of Physionet 2012: its first line is not {_HEADER!r}."
        )
    found = []
    for number, line in enumerate(lines, start=2):
        try:
            found.append(_measurement(line))
        except (KeyError, ValueError) as error:
            raise InvalidInputError(
                f"Line {number} of {str(path)!r} is {line!r}; give a time up to 48:00, one of Physionet's "
                "parameters and a number, as in `00:07,GCS,15`."
            ) from error
    return [measurement for measurement in found if measurement is not None]


def _measurement(line: str) -> Measurement | None:
    """None where it tells of the patient, or of nothing."""
    clock, name, value = line.split(",")
    if name in _DESCRIPTORS:
        return None
    hours, minutes = map(int, clock.split(":"))
    hour, feature, found = (60 * hours + minutes + 30) // 60, _FEATURE[name], float(value)
    if not (0 <= hour <= 48 and np.isfinite(found)):
        raise ValueError
    return None if found == _UNKNOWN else (hour, feature, found)
