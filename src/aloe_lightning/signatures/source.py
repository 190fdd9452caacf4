"""Static reading of class signatures from source text, without importing the modules."""

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

REQUIRED = object()
"""Sentinel for a parameter without a default."""
ROOT = Path(__file__).parents[1]
IMPORTED_MODULES = ("typing", "collections.abc", "annotated_types", "pathlib", "aloe_lightning.signatures.types")
"""Modules that are imported; names from other modules are parsed or become `Opaque`."""


class _OpaqueType(type):
    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return Opaque


class Opaque(metaclass=_OpaqueType):
    """Placeholder for types that cannot be given in a config, such as a tensor or a net."""

    def __class_getitem__(cls, _: Any) -> type:
        return cls


@cache
def find_class(path: str) -> "ClassSource | None":
    """Return a class of this package by its path, such as `aloe_lightning.data.CIFAR10`; None if there is none."""
    module, _, name = path.rpartition(".")
    source = read_module(module)
    return source.find_class(name) if source is not None else None


def exported_classes(room: str) -> list[str]:
    """Return the names of the classes that a room of the package exports."""
    module = read_module(f"aloe_lightning.{room}")
    return [] if module is None else [name for name in module.imports if name[:1].isupper()]


@cache
def read_module(name: str) -> "ModuleSource | None":
    """Parse a module of this package; None if there is none."""
    path = ROOT.joinpath(*name.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ModuleSource(ast.parse(file.read_text())) if file.is_file() else None


class ModuleSource:
    """The names that a module defines or imports.

    Attributes:
        classes: class definitions by name.
        values: assigned expressions by name.
        imports: for each imported name, its module and its name in that module.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self.values: dict[str, ast.expr] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for node in self._statements(tree):
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.ImportFrom) and node.module:
                self.imports |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.values[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                self.values[node.target.id] = node.value

    @staticmethod
    def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
        """Yield top-level statements, and those under `if TYPE_CHECKING:`."""
        for node in tree.body:
            yield from node.body if isinstance(node, ast.If) else [node]

    def find_class(self, name: str) -> "ClassSource | None":
        """Return a class that is defined here or imported from another module of this package."""
        if name in self.classes:
            return ClassSource(self, self.classes[name])
        module, original = self.imports.get(name, ("", ""))
        source = read_module(module) if module.startswith("aloe_lightning.") else None
        return source.find_class(original) if source is not None else None

    def evaluate(self, expression: ast.expr) -> Any:
        """Return the value of an annotation or a default; `Opaque` for unresolved names."""
        # eval is safe here: the expression is source text of this package, and no builtin function is available.
        code = compile(ast.Expression(expression), "<signature>", "eval")
        return eval(code, {"__builtins__": {}}, _Names(self))


class _Names(Mapping[str, Any]):
    """The namespace of a module, with lazy lookup."""

    def __init__(self, module: ModuleSource) -> None:
        self.module = module

    def __getitem__(self, name: str) -> Any:
        module = self.module
        if name in module.values:
            return module.evaluate(module.values[name])
        if name in module.imports:
            module_name, original = module.imports[name]
            if module_name in IMPORTED_MODULES:
                return getattr(import_module(module_name), original)
            source = read_module(module_name) if module_name.startswith("aloe_lightning.") else None
            return Opaque if source is None else _Names(source)[original]
        builtin = getattr(builtins, name, Opaque)
        return builtin if isinstance(builtin, type) else Opaque

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True)
class ClassSource:
    """A class definition and its module."""

    module: ModuleSource
    node: ast.ClassDef

    def bases(self) -> list["ClassSource"]:
        """Return the base classes that belong to this package."""
        names = [base.id for base in self.node.bases if isinstance(base, ast.Name)]
        return [class_source for name in names if (class_source := self.module.find_class(name)) is not None]

    def parameters(self) -> dict[str, tuple[Any, Any]]:
        """Return annotation and default of each parameter of the constructor."""
        init = next((n for n in self.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is not None:
            return dict(self._arguments(init.args))
        inherited = {k: v for base in reversed(self.bases()) for k, v in base.parameters().items()}
        decorators = " ".join(ast.unparse(decorator) for decorator in self.node.decorator_list)
        return inherited | dict(self._fields()) if "dataclass" in decorators else inherited

    def constants(self) -> dict[str, Any]:
        """Return the literal class attributes, including inherited ones."""
        constants = {k: v for base in reversed(self.bases()) for k, v in base.constants().items()}
        for node in self.node.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and isinstance(value := getattr(node, "value", None), ast.Constant):
                constants[target.id] = value.value
        return constants

    def docstrings(self) -> Iterator[str]:
        """Yield the docstrings of the base classes and of the class, in this order."""
        for base in reversed(self.bases()):
            yield from base.docstrings()
        yield ast.get_docstring(self.node) or ""

    def _arguments(self, arguments: ast.arguments) -> Iterator[tuple[str, tuple[Any, Any]]]:
        positional = [*arguments.posonlyargs, *arguments.args][1:]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
        for argument, default in [*zip(positional, defaults, strict=True), *self._keyword_only(arguments)]:
            annotation = self.module.evaluate(argument.annotation) if argument.annotation else Any
            yield argument.arg, (annotation, self._default(default))

    @staticmethod
    def _keyword_only(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
        yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)

    def _fields(self) -> Iterator[tuple[str, tuple[Any, Any]]]:
        for node in self.node.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if not ast.unparse(node.annotation).startswith("ClassVar"):
                yield node.target.id, (self.module.evaluate(node.annotation), self._default(node.value))

    def _default(self, expression: ast.expr | None) -> Any:
        if expression is None:
            return REQUIRED
        if isinstance(expression, ast.Call) and ast.unparse(expression.func) == "field":
            field_arguments = {keyword.arg: keyword.value for keyword in expression.keywords}
            factory = field_arguments.get("default_factory")
            if factory is not None:
                return self.module.evaluate(factory)()
            return self._default(field_arguments.get("default"))
        return self.module.evaluate(expression)
