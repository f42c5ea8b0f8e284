"""What models are made of: one digest of their sources, so that an edited model is another one.

In go the names of their modules; out comes a digest of these modules' files and of all files of the project that they import, in
turn. The project is whatever is neither in the standard library nor installed, and always ``recsys`` and the modules' own
packages. Sources are read and not run.
"""

import ast
import hashlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

from recsys.exceptions import InvalidInputError

#: Where packages are installed.
INSTALLED = {"site-packages", "dist-packages"}


def code_of(modules: Iterable[str]) -> str:
    """Hexadecimal SHA-256 over the names and contents of the modules and of what they import, wherever the files lie.

    Every ``import`` statement counts, also inside a function, but those for type checkers only; of a compiled module the file.

    Args:
        modules: names of imported modules.

    Raises:
        InvalidInputError: one of them has no file, or a file cannot be read.
    """
    roots = set(modules)
    own = {"recsys", *(root.partition(".")[0] for root in roots)}
    contents: dict[str, str] = {}
    waiting, seen = list(roots), set[str]()
    while waiting:
        name = waiting.pop()
        package, top = name.rpartition(".")[0], name.partition(".")[0]
        if not name or name in seen or (top in sys.stdlib_module_names and top not in own):
            continue
        seen.add(name)
        waiting.append(package)  # to import a module runs its packages
        spec = _find(name)
        if name in roots and (spec is None or not spec.has_location):
            raise InvalidInputError(f"module {name!r} of a model has no file to tell its code by; keep the class in a file")
        if spec is None or spec.origin is None or not spec.has_location:
            continue
        if top not in own and INSTALLED & set(Path(spec.origin).parts):
            continue
        content = _read(name, spec.origin)
        contents[name] = hashlib.sha256(content).hexdigest()
        waiting += _imported(content, spec.parent or "")
    return hashlib.sha256("".join(f"{name} {contents[name]}\n" for name in sorted(contents)).encode()).hexdigest()


def _read(name: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"module {name!r} is part of a model's code, but cannot be read: {error}") from None


def _find(name: str) -> ModuleSpec | None:
    """Where a module was or would be imported from; unlike :func:`importlib.util.find_spec` it imports no package on the way."""
    module = sys.modules.get(name)
    if module is not None:
        spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
        if spec is None and file:  # a script
            return importlib.util.spec_from_file_location(name, file, loader=SourceFileLoader(name, file))
        return spec
    package = name.rpartition(".")[0]
    if not package:
        return importlib.util.find_spec(name)
    above = _find(package)
    parts: list[str] = []  # directories of a namespace package
    for directory in (above.submodule_search_locations if above else None) or []:
        finder = pkgutil.get_importer(directory)
        spec = finder.find_spec(name) if finder else None
        if spec is not None and spec.loader is not None:
            return spec
        parts += (spec.submodule_search_locations if spec else None) or []
    if not parts:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = parts
    return namespace


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Names that the module's import statements may import; of ``from a import b`` both a and a.b. None of what is no source."""
    try:
        waiting: list[ast.AST] = [ast.parse(source)]
    except (SyntaxError, ValueError):
        return
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # it would fail
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        waiting += ast.iter_child_nodes(node)


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))
