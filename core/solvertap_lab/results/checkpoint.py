"""The standing of an interrupted run, as a file beside the results."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from solvertap.errors import InvalidInputError

from ..training.comparison import Comparison
from ..training.run import Run, Standing
from .lock import Lock
from .record import conditions, write_whole

PREFIX, LOCK = "checkpoint-", ".lock"
_TRAINER, _AVERAGED = "trainer/", "averaged/"


@dataclass(frozen=True)
class CheckpointFile:
    """The checkpoint of one run: a NumPy archive of arrays and one text, written after each epoch.

    Attributes:
        path: where it lies.
        made_with: the conditions of the run, which must be the same to go on.
        resume: whether a file that is there is gone on from; else the next one takes its place.
    """

    path: Path
    made_with: str
    resume: bool

    @classmethod
    def of(cls, folder: Path, comparison: Comparison, run: Run, *, resume: bool) -> CheckpointFile:
        """The one of a run in a folder."""
        name = f"{PREFIX}{run.backend}-{quote(run.method, safe='')}-{run.seed}.npz"
        made_with = json.dumps(conditions(comparison) | {"run": [run.backend, run.method, run.penalty, run.seed]})
        return cls(folder / name, made_with, resume)

    def read(self) -> Standing | None:
        """The standing in the file.

        Raises:
            InvalidInputError: it is of another setting, machine, version or penalty, or cannot be read.
        """
        if not self.resume:
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            text = json.loads(str(arrays.pop("text")))
            known = [_under(arrays, prefix) for prefix in (_TRAINER, _AVERAGED)]
            standing = Standing(Run(**text["run"]), text["step_seconds"], text["drawing"], *known)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise self._refused("cannot be read") from error
        if text["made_with"] != self.made_with:
            raise self._refused("was written with other settings, versions or on another machine")
        return standing

    def write(self, standing: Standing) -> None:
        text = {
            "made_with": self.made_with,
            "run": asdict(standing.run),
            "step_seconds": standing.step_seconds,
            "drawing": standing.drawing,
        }
        arrays = {_TRAINER + name: array for name, array in standing.trainer.items()}
        arrays |= {_AVERAGED + name: array for name, array in standing.averaged.items()}
        write_whole(self.path, _saving({"text": np.asarray(json.dumps(text)), **arrays}))

    def lock(self) -> Lock:
        """A new lock, not yet taken; held by the process that trains the run."""
        return Lock(self.path.with_suffix(LOCK))

    def tidy(self) -> None:
        """Removes what a process that was killed has half written; the lock is to be held."""
        for path in self.path.parent.glob(f".{self.path.name}.*"):
            path.unlink(missing_ok=True)

    @property
    def exists(self) -> bool:
        """Whether there is one, for whatever run."""
        return self.path.exists()

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)

    def _refused(self, why: str) -> InvalidInputError:
        return InvalidInputError(
            f"`--resume` goes on with {str(self.path)!r}, which {why}; move it away, or give another `--out`."
        )


def _under(arrays: dict[str, np.ndarray[Any, Any]], prefix: str) -> dict[str, np.ndarray[Any, Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _saving(arrays: dict[str, np.ndarray[Any, Any]]) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with path.open("wb") as file:  # given a path, `savez` would add a suffix of its own
            np.savez(file, **arrays)  # type: ignore[arg-type]  # mypy takes a name for `allow_pickle`

    return save
