"""Runs a script as Python would: as `__main__`, with its own arguments, exit code and traceback."""

from __future__ import annotations

import io
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ..errors import InvalidInputError


class Script:
    """A script or a module to run as `__main__`, once.

    Args:
        name: the path of the script, or the dotted name of the module.
        arguments: its command line arguments.
        module: whether it is a module, as after `python -m`.

    Attributes:
        name: that of the script without its folder, or that of the module.
        arguments: as given.
    """

    def __init__(self, name: str, arguments: list[str], *, module: bool = False) -> None:
        self.name: str = name if module else Path(name).name
        self._name = name
        self.arguments = arguments
        self._path = str(Path(name).absolute())
        self._spec: ModuleSpec | None = None
        self._is_module = module

    @classmethod
    def of(cls, command: list[str] | None, module: str | None) -> Script:
        """That of a command line: the script and its arguments, or a module and these.

        Raises:
            InvalidInputError: there is neither.
        """
        arguments = list(command or [])
        if module is None and not arguments:
            raise InvalidInputError("No script was given; give one, or a module after `-m`, after the options.")
        return cls(module or arguments.pop(0), arguments, module=module is not None)

    def find(self) -> None:
        """Finds it, and sets the import path and the arguments for it. The package of a module is imported here.

        Raises:
            InvalidInputError: there is none.
        """
        if self._is_module:
            sys.path[0] = str(Path.cwd())
            sys.argv = ["-m", *self.arguments]
            self._spec = _spec_of(self._name)
            self._path = str(self._spec.origin)
            sys.argv[0] = self._path
            return
        if not Path(self._name).is_file():
            raise InvalidInputError(f"No script is at {self._name!r}; give a file, or a module after `-m`.")
        sys.path[0] = str(Path(self._name).resolve().parent)
        sys.argv = [self._name, *self.arguments]

    def run(self) -> None:
        """Runs it, after `find`.

        Raises:
            SystemExit: with its exit code; 1 if it raised, after its traceback has been printed.
            KeyboardInterrupt: it was interrupted; the traceback has been printed.
        """
        main = ModuleType("__main__")
        spec = self._spec
        vars(main).update(
            __file__=self._path,
            __builtins__=sys.modules["builtins"],
            __spec__=spec,
            __package__=None if spec is None else spec.parent,
            __loader__=None if spec is None else spec.loader,
        )
        sys.modules["__main__"] = main
        try:
            exec(self._code(), vars(main))
        except SystemExit as done:
            if done.code is None or isinstance(done.code, int):
                raise
            print(done.code, file=sys.stderr)
            raise SystemExit(1) from None
        except BaseException as error:
            _report(error, main)
            if isinstance(error, KeyboardInterrupt):
                # Python then ends by the signal, as it would have. The traceback has been printed already.
                sys.excepthook = lambda *_: None
                raise
            raise SystemExit(1) from None

    def _code(self) -> CodeType:
        if self._spec is not None:
            loader: Any = self._spec.loader
            code: CodeType = loader.get_code(self._spec.name)
            return code
        with io.open_code(self._path) as file:
            return compile(file.read(), self._path, "exec", dont_inherit=True)


def _spec_of(name: str) -> ModuleSpec:
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    except ModuleNotFoundError:
        spec = None
    if spec is None or not hasattr(spec.loader, "get_code"):
        raise InvalidInputError(f"No module {name!r} can be run; see that it is installed, or in the current folder.")
    return spec


def _report(error: BaseException, main: ModuleType) -> None:
    """Prints an exception as Python would, from the script's own frames on."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals is not vars(main):
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    sys.excepthook(type(error), error, traceback)
