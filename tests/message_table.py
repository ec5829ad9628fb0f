"""Writes docs/messages.md: every message that solvertap raises or warns with, read from the code itself.

python -m tests.message_table            # write
python -m tests.message_table --check    # exit 1 if what is written differs from what would be
"""

import ast
import inspect
import re
from pathlib import Path
from typing import NamedTuple

from solvertap import errors
from tests import collecting

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "messages.md"
HEAD = """# Messages

Every message that solvertap raises or warns with: what was asked, what was found, what to do. Written by `make docs`
from the code; a test fails where it is not current. ⟨Words in angle brackets⟩ stand for what was found. What is in
[square brackets] is said where it applies. The classes are in `solvertap.errors`; each is also the builtin beside it.
"""
KINDS = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == errors.__name__
}
# Functions of the core that raise, or make, an exception: its class, and its message by their arguments.
MAKERS = {
    "does_not_fit": ("StepError", "The adapter ⟨adapter⟩ {1}; {2}."),
    "UnknownNameError.of": (
        "UnknownNameError",
        "No {0} is named ⟨name⟩ [(did you mean ⟨name⟩?)]; the choices are: ⟨names⟩.",
    ),
    "UnknownKeyError.of": (
        "UnknownKeyError",
        "No {0} is named ⟨name⟩ [(did you mean ⟨name⟩?)]; the choices are: ⟨names⟩.",
    ),
    "self._fail": ("InvalidInputError", "{0}: [the text, and under it a ^ where the mistake is]"),
    "MissingExtraError.of": ("MissingExtraError", "{0} is not installed; run `pip install 'solvertap[{1}]'`."),
}


class Message(NamedTuple):
    """One of them.

    Attributes:
        kind: the class, or "warning".
        text: with ⟨placeholders⟩.
        room: the module that raises it, as in `solvertap.terms` or `solvertap_torchsde`.
    """

    kind: str
    text: str
    room: str


class Reader(ast.NodeVisitor):
    """Finds the messages of one module."""

    def __init__(self, tree, room):
        self.room, self.found = room, []
        self.functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        self.scopes = [_assigned(tree.body)]
        self.visit(tree)

    def visit_FunctionDef(self, node):  # as `ast` calls it
        self.scopes.append(_assigned(ast.walk(node)))
        self.generic_visit(node)
        self.scopes.pop()

    def visit_Call(self, node):  # likewise
        name = ast.unparse(node.func)
        if name in MAKERS:
            kind, text = MAKERS[name]
            words = [self.text(each) for each in node.args]
            self.add(kind, re.sub(r"\{(\d)\}", lambda found: words[int(found[1])], text))
        elif name in KINDS and node.args and not isinstance(node.args[0], ast.Starred):
            self.add(name, self.text(node.args[0]))
        elif name == "warnings.warn":
            self.add("warning", self.text(node.args[0]))
        self.generic_visit(node)

    def add(self, kind, text):
        if " " in text:  # else it is handed on, and stands where it was made
            self.found.append(Message(kind, " ".join(text.split()), self.room))

    def text(self, node):
        """An expression as the reader of the message sees it."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=values):
                return "".join(self.text(each) for each in values)
            case ast.FormattedValue(value=value):
                return self.text(value)
            case ast.Name(id=name) if (known := self.known(name)) is not None:
                return self.text(known)
            case ast.Call(func=ast.Name(id=name)) if (returned := self.returned(name)) is not None:
                return self.text(returned)
            case ast.IfExp(body=body, orelse=ast.Constant(value="")):
                return f"[{self.text(body)}]"
            case ast.IfExp(body=ast.Constant(value=""), orelse=orelse):
                return f"[{self.text(orelse)}]"
            case ast.IfExp(body=body, orelse=orelse):
                return f"{self.text(body)} / {self.text(orelse)}"
            case ast.BoolOp(op=ast.And(), values=[*_, last]):
                return f"[{self.text(last)}]"
        return f"⟨{_name(node)}⟩"

    def known(self, name):
        """The text that a name was given in this function, or in this module; None where there is not one."""
        for scope in reversed(self.scopes):
            if name in scope:
                (first, *others) = scope[name]
                return first if not others and isinstance(first, ast.Constant | ast.JoinedStr) else None
        return None

    def returned(self, name):
        """The text that a function of this module returns; None where it returns something else."""
        node = self.functions.get(name)
        returns = [] if node is None else [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
        return returns[-1] if returns and isinstance(returns[-1], ast.JoinedStr) else None


def _assigned(nodes):
    found = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
        if isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).append(None)
    return found


def _name(node):
    """The word for a value: the last name in the expression that makes it."""
    match node:
        case ast.Call(func=ast.Attribute(attr="join"), args=[values]):
            return _name(values)
        case ast.Call(func=ast.Attribute(value=value, attr="partition" | "rstrip" | "removeprefix" | "upper")):
            return _name(value)
        case ast.Call(func=ast.Name(id="map"), args=[_, values]):
            return _name(values)
        case ast.Call(
            func=ast.Name(id="type" | "str" | "repr" | "tuple" | "len" | "sorted" | "list" | "set"), args=[x]
        ):
            return _name(x)
        case ast.Call(func=function):
            return _name(function)
        case ast.Attribute(value=value, attr=name):
            return _name(value) if name.startswith("__") else name.strip("_")
        case ast.Name(id=name):
            return name.strip("_")
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return _name(value)
        case ast.GeneratorExp(generators=[first]) | ast.ListComp(generators=[first]):
            return _name(first.iter)
        case ast.BinOp(left=left):
            return _name(left)
    return "..."


def messages():
    """Every message of core and adapters, one of each, in the order of the tree of exceptions."""
    found = {}
    for folder in ("core", "adapters"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            room = ".".join(parts[:2] if parts[0] in ("solvertap", "solvertap_lab") else parts[:1]).removesuffix(
                ".__init__"
            )
            if path.name != "errors.py":
                found |= dict.fromkeys(Reader(ast.parse(path.read_text()), room).found)
    order = [*KINDS, "warning"]
    return sorted(found, key=lambda message: order.index(message.kind))


def document():
    lines, before = [HEAD], None
    for kind, text, room in messages():
        if kind != before:
            lines += ["", f"## {heading(kind)}", "", sentence(kind), ""]
            before = kind
        lines.append(f"- {text} <small>{room}</small>")
    return "\n".join(lines) + "\n"


def heading(kind):
    if kind == "warning":
        return "Warnings"
    builtin = next((base.__name__ for base in KINDS[kind].__mro__[1:] if base.__module__ == "builtins"), "")
    return f"`{kind}` (`{builtin}`)"


def sentence(kind):
    if kind == "warning":
        return "Each is a `RuntimeWarning`."
    return inspect.getdoc(KINDS[kind]).split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    collecting.write_or_check(DOCUMENT, document())
