"""Outlines of this package's modules, read from their source text: no library that they import is imported."""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = "aloe_lightning."
ROOT = Path(__file__).parents[1]
TYPES = f"{PACKAGE}signatures.types"
IMPORTED_MODULES = ("typing", "collections.abc", "dataclasses", "pathlib", "annotated_types", TYPES)
"""Modules that are imported; names from other libraries become `OPAQUE`."""


class _Opaque:
    """Placeholder for types that cannot be given in a config, such as a tensor or a net."""

    __iter__ = None

    def __getattr__(self, name: str) -> "_Opaque":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def _opaque(self, *_: Any, **__: Any) -> "_Opaque":
        return self

    __call__ = __getitem__ = __or__ = __ror__ = _opaque


OPAQUE = _Opaque()


_outlines: dict[str, dict[str, Any]] = {}


def outline(module: str) -> dict[str, Any]:
    """Return the names that a module of this package defines or imports; empty if there is no such module.

    A class has its class attributes and the signature of its constructor, but no methods. Functions are `OPAQUE`.
    """
    if module in _outlines:
        return _outlines[module]
    path = ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = _outlines[module] = {"__name__": module}
    tree = ast.parse(file.read_text() if file.is_file() else "")
    # The statements at the top level, and those under `if TYPE_CHECKING:`.
    for node in (part for parent in tree.body for part in (parent.body if isinstance(parent, ast.If) else [parent])):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: _imported(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0]: OPAQUE for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = OPAQUE
        elif isinstance(node, ast.ClassDef):
            _execute(_without_methods(node, names), names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            try:
                _execute(node, names)
            except Exception:  # it computes with opaque values
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id: OPAQUE for target in targets if isinstance(target, ast.Name)}
    return names


def is_own_class(thing: Any) -> bool:
    """Return whether a value of an outline is a class of this package."""
    return isinstance(thing, type) and thing.__module__.startswith(PACKAGE)


def _imported(module: str, name: str) -> Any:
    if module in IMPORTED_MODULES:
        return getattr(import_module(module), name, OPAQUE)
    is_function = name.islower()  # opaque in any case, so that its module need not be read
    return OPAQUE if is_function or not module.startswith(PACKAGE) else outline(module).get(name, OPAQUE)


def _execute(node: ast.stmt, names: dict[str, Any]) -> None:
    exec(compile(ast.Module([node], []), names["__name__"], "exec"), names)


def _without_methods(node: ast.ClassDef, names: dict[str, Any]) -> ast.ClassDef:
    """Reduce a class to its docstring, attributes and constructor's signature, as a subclass of outlines alone."""
    node.bases = [base for base in node.bases if isinstance(base, ast.Name) and is_own_class(names.get(base.id))]
    node.decorator_list = [decorator for decorator in node.decorator_list if "dataclass" in ast.unparse(decorator)]
    kept: list[ast.stmt] = []
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            member.decorator_list, member.body = [], [ast.Pass()]
            kept.append(member)
        elif isinstance(member, ast.Expr | ast.Assign | ast.AnnAssign):
            kept.append(member)
    node.body = kept or [ast.Pass()]
    return ast.fix_missing_locations(node)
