"""Code for a function that hands its arguments on to another function.

Whoever has imported a function by name holds the function, and no module attribute leads to it. Its code can be
exchanged: the function stays the very object it was, and runs something else.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from types import CodeType, FunctionType
from typing import Any

_targets: dict[str, Callable[..., Any]] = {}  # by the full name of the function that hands on

# The code looks its target up by a string: of constants, Dynamo accepts only the plain ones.
_TEMPLATE = "def forward{parameters}:\n from {module} import _targets\n return _targets[{name!r}]({arguments})"
_WRITTEN = {
    Parameter.POSITIONAL_ONLY: "{0}",
    Parameter.POSITIONAL_OR_KEYWORD: "{0}",
    Parameter.VAR_POSITIONAL: "*{0}",
    Parameter.KEYWORD_ONLY: "{0}={0}",
    Parameter.VAR_KEYWORD: "**{0}",
}


def forwarding(function: FunctionType, target: Callable[..., Any]) -> CodeType:
    """Code for a function without a closure: of the same parameters, it returns what the target returns for them.

    The defaults stay the function's own. There is one target for each name, the last.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    _targets[name] = target
    parameters = [Parameter(p.name, p.kind) for p in signature(function, follow_wrapped=False).parameters.values()]
    text = _TEMPLATE.format(
        parameters=Signature(parameters),
        module=__name__,
        name=name,
        arguments=", ".join(_WRITTEN[p.kind].format(p.name) for p in parameters),
    )
    found: dict[str, Any] = {}
    exec(compile(text, __file__, "exec"), found)
    code: CodeType = found["forward"].__code__
    return code.replace(co_name=function.__name__, co_qualname=function.__qualname__)


def same(function: FunctionType) -> FunctionType:
    """A function that runs the present code of another one, whatever becomes of that one's."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.update(function.__dict__)
    copy.__qualname__, copy.__module__, copy.__doc__ = function.__qualname__, function.__module__, function.__doc__
    return copy
