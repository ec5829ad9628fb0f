"""The runs of a comparison as a file, and the machine and versions they were made with."""

from __future__ import annotations

import json
import math
import os
import platform
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from solvertap.errors import InvalidInputError
from solvertap.terms.fields import field_types, fits

from ..training.comparison import Comparison
from ..training.run import Run
from ..training.trajectories import of_prediction

_LIBRARIES = ("solvertap", "torch", "torchdiffeq", "torchsde", "jax", "diffrax", "optax", "numpy")


def as_text(comparison: Comparison, runs: Sequence[Run]) -> str:
    """The runs of a comparison as JSON, with the conditions under which they were made."""
    document = conditions(comparison) | {
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "runs": [asdict(run) for run in runs],
    }
    return json.dumps(_finite(document), indent=1) + "\n"


def read_runs(folder: Path, comparison: Comparison, *, failed: bool = False) -> list[Run]:
    """The runs a folder holds that stand in one table with those of a comparison.

    Args:
        folder, comparison: which ones.
        failed: whether those that failed are among them.

    Raises:
        InvalidInputError: it holds results of another setting, machine, version or penalty, with the first that
            differs; or no results that can be read.
    """
    path = folder / "results.json"
    if not path.exists():
        return []
    document = _document(path)
    # Through JSON, as what was written: tuples are lists there.
    for what, asked in json.loads(json.dumps(conditions(comparison))).items():
        if document.get(what) != asked:
            raise _other_results(f"{what} {asked!r}", path, repr(document.get(what)))
    runs = [_run(each, path) for each in document["runs"]]
    penalties = {method.name: method.penalty() for method in comparison.methods}
    for run in runs:
        if (asked := penalties.get(run.method, run.penalty)) != run.penalty:
            raise _other_results(f"{run.method} as {asked!r}", path, repr(run.penalty))
    return [run for run in runs if failed or run.failure is None]


def describe_machine() -> str:
    """Processor, cores and versions, for the line under a table."""
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside its place and moves it there: an interrupt leaves the old file or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _other_results(asked: str, path: Path, found: str) -> InvalidInputError:
    return InvalidInputError(
        f"`--resume` asks for {asked}, and {str(path)!r} holds {found}; give another `--out`, or leave `--resume` out."
    )


def conditions(comparison: Comparison) -> dict[str, Any]:
    """What two runs must have in common to stand in one table."""
    return {
        "problem": comparison.problem.name,
        "metric": comparison.problem.metric,
        "data": comparison.data,
        "setting": {
            "epochs": comparison.epochs,
            "batch_size": comparison.batch_size,
            "tolerance": comparison.tolerance,
            "optimiser": asdict(comparison.problem.optimiser),
            "precision": comparison.precision,
            "first_step": comparison.problem.first_step,
            "trajectories": [comparison.problem.trajectories, of_prediction(comparison.problem)],
            "solver": None if comparison.by_default() else comparison.solver,
            "align": comparison.align,
        },
        "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": _versions(),
    }


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, or nested beyond measure
        raise _unreadable(path, "is no JSON, or only the beginning of some") from error
    if not isinstance(document, dict) or not isinstance(document.get("runs"), list):
        raise _unreadable(path, "holds no results of `solvertap compare`")
    return document


def _run(entry: Any, path: Path) -> Run:
    known = field_types(Run)
    values = {name: _read(value, known.get(name)) for name, value in entry.items()} if isinstance(entry, dict) else {}
    whole = {"backend", "method", "seed"} <= values.keys() <= known.keys()
    if not whole or not all(fits(value, known[name]) for name, value in values.items()):
        raise _unreadable(path, f"holds a run that `solvertap compare` has not written: {reprlib.repr(entry)}")
    return Run(**values)


def _unreadable(path: Path, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"`--resume` goes on with {str(path)!r}, which {why}; move it away, give another `--out`, or leave `--resume` "
        "out."
    )


def _read(value: Any, annotation: Any) -> Any:
    # What was not measured has been written as null.
    if annotation == list[float] and isinstance(value, list):
        return [math.nan if x is None else x for x in value]
    return math.nan if annotation is float and value is None else value


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _finite(value: Any) -> Any:
    # JSON has no NaN; what was not measured is null.
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
