import inspect
from types import ModuleType, SimpleNamespace

import pytest

from solvertap import errors
from solvertap.adapting import Patches


class _Owner:
    @staticmethod
    def static():
        return "original"

    def method(self):
        return "original"


def _loud(original):
    function = original.__func__ if isinstance(original, staticmethod) else original
    loud = lambda *args: function(*args).upper()  # noqa: E731  # a wrapper
    return staticmethod(loud) if isinstance(original, staticmethod) else loud


def test_undo_gives_the_very_objects_back():
    before = dict(vars(_Owner))
    patches = Patches()
    patches.replace(_Owner, "static", _loud)
    patches.replace(_Owner, "method", _loud)
    assert (_Owner.static(), _Owner().method()) == ("ORIGINAL", "ORIGINAL")
    patches.undo()
    patches.undo()
    assert all(vars(_Owner)[name] is before[name] for name in ("static", "method"))


def test_patch_of_somebody_else_over_ours_is_left_and_ours_is_not_doubled():
    owner = SimpleNamespace(solve=lambda: "x")
    original, calls = owner.solve, []

    def ours(inner):
        def wrapped():
            calls.append("ours")
            return inner()

        return wrapped

    patches = Patches()
    patches.replace(owner, "solve", ours)
    covered = owner.solve

    def theirs():
        return "theirs " + covered()

    owner.solve = theirs
    patches.undo()
    assert owner.solve is theirs
    patches.replace(owner, "solve", ours)
    assert owner.solve() == "theirs x"
    assert calls == ["ours"]
    owner.solve = covered  # they take theirs out
    patches.undo()
    assert owner.solve is original


def test_class_of_one_object_is_exchanged_and_given_back():
    one, other = _Owner(), _Owner()
    patches = Patches()
    owner = SimpleNamespace(one=one)
    patches.replace_class(owner, "one", lambda cls: type(cls.__name__, (cls,), {"method": lambda self: "tapped"}))
    assert (one.method(), other.method()) == ("tapped", "original")
    assert isinstance(one, _Owner)
    patches.undo()
    assert type(one) is _Owner


def test_attribute_that_a_class_inherits_is_shadowed_and_inherited_again():
    child = type("Child", (_Owner,), {})
    patches = Patches()
    for _ in range(2):
        patches.shadow(child, "method", lambda inherited: lambda self: f"tapped {inherited(self)}")
    assert (child().method(), _Owner().method()) == ("tapped original", "original")
    assert patches.stand()
    patches.undo()
    assert "method" not in vars(child)
    assert patches.placed == ()
    patches.shadow(child, "method", lambda inherited: _loud)
    del child.method  # by somebody else
    assert not patches.stand()
    with pytest.raises(errors.PluginError, match="inherits no attribute 'other'"):
        patches.shadow(child, "other", _loud)


def test_inherited_attribute_is_not_ours_to_patch():
    with pytest.raises(errors.PluginError, match="'method'"):
        Patches().replace(type("Child", (_Owner,), {}), "method", _loud)


# --- Functions that others have imported by name ----------------------------------------------------------------------
SOURCE = """
def solve(x, /, y=2, *rest, scale=1, **more):
    return [x, y, rest, scale, more]

def enclosed():
    kept = 3
    return lambda: kept

closure = enclosed()
"""


@pytest.fixture
def library():
    module = ModuleType("library")
    exec(compile(SOURCE, "library.py", "exec"), vars(module))
    return module


def _marked(original):
    return lambda *args, **kwargs: ["tapped", *original(*args, **kwargs)]


def test_code_is_exchanged_for_whoever_holds_the_function_and_given_back(library):
    held, code, signature = library.solve, library.solve.__code__, inspect.signature(library.solve)
    patches = Patches()
    for _ in range(2):  # the second changes nothing
        patches.replace_code(library, "solve", _marked)
    assert library.solve is held
    assert inspect.signature(held) == signature
    assert held(1) == ["tapped", 1, 2, (), 1, {}]
    assert held(1, 5, 6, 7, scale=3, z=4) == ["tapped", 1, 5, (6, 7), 3, {"z": 4}]
    with pytest.raises(TypeError, match=r"^solve\(\) missing 1 required positional argument: 'x'$"):
        held()
    assert patches.stand()
    patches.undo()
    assert held.__code__ is code
    assert held(1) == [1, 2, (), 1, {}]
    assert patches.placed == ()


def test_code_of_a_function_that_somebody_wraps_is_exchanged_once_and_the_wrapper_stays(library):
    held, patches = library.solve, Patches()
    patches.replace_code(library, "solve", _marked)
    wrapper = library.solve = lambda *args: ["theirs", *held(*args)]
    assert patches.stand()
    patches.replace_code(library, "solve", _marked)
    assert library.solve(1) == ["theirs", "tapped", 1, 2, (), 1, {}]
    patches.undo()
    assert library.solve is wrapper
    assert library.solve(1) == ["theirs", 1, 2, (), 1, {}]


def test_code_of_a_reloaded_function_is_exchanged_anew(library):
    patches = Patches()
    patches.replace_code(library, "solve", _marked)
    exec(compile(SOURCE, "library.py", "exec"), vars(library))
    assert not patches.stand()
    patches.replace_code(library, "solve", _marked)
    assert library.solve(1)[0] == "tapped"
    assert patches.stand()
    patches.undo()
    assert library.solve(1) == [1, 2, (), 1, {}]


def test_function_with_a_closure_is_replaced_in_its_owner(library):
    original, patches = library.closure, Patches()
    patches.replace_code(library, "closure", lambda original: lambda: -original())
    assert (library.closure(), original()) == (-3, 3)
    patches.undo()
    assert library.closure is original
