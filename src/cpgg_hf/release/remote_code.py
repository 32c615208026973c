"""Code for Hub repositories that load with `trust_remote_code=True` where this package is not installed.

The libraries download one file per component, so `flatten` writes a class and everything that it needs from this
package, the table of phenotypes included, into one module that only imports other libraries. Checks of files, fitting
and docstrings of internal functions are left out. The files in `pipelines/` are generated, never edited; a test
compares them with the sources.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from cpgg_hf.errors import PublishingError

_PACKAGE = "cpgg_hf"
# Names from these modules are dropped as base classes; top-level calls are dropped anyway.
_LEFT_OUT = ("cpgg_hf.hub.mixin", "cpgg_hf.models.pipeline_files", "cpgg_hf.models.registration")
_HEADER = '"""{name} of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.\n\n{note}\n"""\n'
_NOTE = "Generated from the sources of cpgg_hf by `cpgg export-remote-code`, do not edit. Apache-2.0."


@dataclass(frozen=True)
class RemoteFile:
    """A file of a Hub repository: its path there, the class that it defines, and methods of the class to leave out."""

    path: str
    module: str
    class_name: str
    without: tuple[str, ...] = ()

    def text(self) -> str:
        """The content of the file."""
        return flatten(self.module, self.class_name, self.without)


FILES = (
    RemoteFile("pipeline_cpgg.py", "cpgg_hf.pipeline_cpgg", "CPGGPipeline"),
    RemoteFile(
        "phenotype_vae/phenotype_vae.py",
        "cpgg_hf.models.phenotype_vae",
        "CPGGPhenotypeVAE",
        ("from_phenotypes", "fit_sampler", "forward", "encode"),
    ),
    RemoteFile("mar/modeling_cpgg_mar.py", "cpgg_hf.models.modeling_cpgg_mar", "CPGGMARModel"),
    RemoteFile("vae/autoencoder_kl_cpgg.py", "cpgg_hf.models.autoencoder_kl_cpgg", "AutoencoderKLCPGG"),
    RemoteFile("scheduler/scheduling_cpgg_ddpm.py", "cpgg_hf.models.scheduling_cpgg_ddpm", "CPGGDDPMScheduler"),
)


def export_remote_code(out: Path) -> list[Path]:
    """Writes all files into a folder and returns their paths."""
    written = []
    for file in FILES:
        path = out / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text(), encoding="utf-8")
        written.append(path)
    return written


def changed_remote_code(out: Path) -> list[str]:
    """The files in a folder that are missing or differ from the sources."""
    return [
        file.path
        for file in FILES
        if not (out / file.path).is_file() or (out / file.path).read_text(encoding="utf-8") != file.text()
    ]


@cache
def flatten(module: str, class_name: str, without: tuple[str, ...] = ()) -> str:
    """The text of one module: a class of this package and everything that it needs from the package.

    Args:
        module: where the class is defined.
        class_name: the class; only its public methods keep their docstrings.
        without: methods of the class to leave out.

    Raises:
        PublishingError: the class does not exist, or a function imports from the package (imports belong at the top).
    """
    flattened = _Flattened(class_name, without)
    flattened.need(module, class_name)
    return _HEADER.format(name=class_name, note=_NOTE) + "\n" + flattened.text()


@dataclass
class _Module:
    """A parsed module of the package."""

    name: str
    source: bytes
    line_starts: list[int]
    lazy_annotations: bool = False
    definitions: list[ast.stmt] = field(default_factory=list)
    own_imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (module of the package, name there)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (its import without "as", name there)
    left_out: set[str] = field(default_factory=set)
    texts: dict[int, str] = field(default_factory=dict)  # text of each needed definition

    def offset(self, line: int, column: int) -> int:
        return self.line_starts[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        return self.offset(*start), self.offset(*end)


class _Flattened:
    """The definitions and imports found so far, each under a name that is unique in the file."""

    def __init__(self, class_name: str, without: tuple[str, ...]) -> None:
        self.class_name, self.without = class_name, without
        self.modules: dict[str, _Module] = {}
        self.names: dict[str, tuple[str, str]] = {}  # unique name: (module or import, name there)
        self.imports: set[str] = set()

    def need(self, module_name: str, name: str) -> str | None:
        """Adds a name and everything that its definition uses; returns its name in the file, None for builtins."""
        if module_name not in self.modules:
            self.modules[module_name] = _parse(module_name)
        module = self.modules[module_name]
        for index, node in enumerate(module.definitions):
            if name in _bound_by(node):
                unique = self._unique(module_name, name)
                if index not in module.texts:
                    module.texts[index] = ""  # recursion ends here
                    module.texts[index] = self._definition(module, node)
                return unique
        if name in module.own_imports:
            return self.need(*module.own_imports[name])
        if name in module.imports:
            statement, original = module.imports[name]
            dotted = statement.startswith("import ") and "." in original and name == original.split(".")[0]
            unique = name if dotted else self._unique(statement, original, preferred=name)
            self.imports.add(statement + ("" if dotted or unique == original else f" as {unique}"))
            return unique
        return None

    def text(self) -> str:
        """Imports, then the definitions of each module in their own order."""
        sections = []
        for module in self._in_order():
            texts = [module.texts[index] for index in sorted(module.texts)]
            sections.append(f"# ---- {module.name}\n\n\n" + "\n\n\n".join(texts))
        body = "\n\n\n".join(sections)
        # A table's text has replaced the only use of some imports.
        used = [one for one in self.imports if re.search(rf"\b{re.escape(one.split()[-1].split('.')[0])}\b", body)]
        imports = sorted(used, key=lambda statement: (statement.split()[1], statement))
        return "\n".join(imports) + "\n\n\n" + body + "\n"

    def _unique(self, origin: str, original: str, preferred: str | None = None) -> str:
        prefix = "_" + origin.split()[-1].split(".")[-1].strip("_")
        for unique in (preferred or original, f"{prefix}_{original.strip('_')}"):
            if self.names.setdefault(unique, (origin, original)) == (origin, original):
                return unique
        raise PublishingError(f"cannot find a free name for {original} of {origin}; rename it.")

    def _in_order(self) -> list[_Module]:
        """The modules with needed definitions, each after those that it imports from."""
        ordered: dict[str, _Module] = {}

        def visit(module: _Module) -> None:
            for origin, _ in module.own_imports.values():
                if origin in self.modules and origin not in ordered:
                    visit(self.modules[origin])
            ordered[module.name] = module

        for module in self.modules.values():
            visit(module)
        return [module for module in ordered.values() if module.texts]

    def _definition(self, module: _Module, node: ast.stmt) -> str:
        """The text of a statement with unique names and without docstrings, left-out methods and base classes."""
        edits = dict(self._removals(module, node))  # (start, end): new text
        removed = [span for span, text in edits.items() if not text]

        def inside_removed(one: ast.AST) -> bool:
            start, _ = module.span(one)
            return any(first <= start < end for first, end in removed)

        for one in ast.walk(node):
            if isinstance(one, ast.Import | ast.ImportFrom) and _PACKAGE in ast.unparse(one):
                raise PublishingError(
                    f"{module.name} imports from {_PACKAGE} in line {one.lineno}; import at the top."
                )
            annotation = getattr(one, "returns", None) or getattr(one, "annotation", None)
            if module.lazy_annotations and isinstance(annotation, ast.expr) and not inside_removed(annotation):
                edits[module.span(annotation)] = repr(ast.unparse(annotation))
        quoted, aliases = list(edits), dict[str, str]()
        bound = {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)} | _bound_by(node, inner=True)
        for one in _global_names(node):
            if one.id in module.left_out or inside_removed(one):
                continue
            start, end = module.span(one)
            if any(first <= start < last for first, last in quoted):
                continue
            unique = self.need(module.name, one.id)
            if unique is not None and unique != one.id:
                if unique in bound:  # an argument or local variable has this name: refer to it by another one
                    unique, original = self._unique(module.name, f"renamed_{one.id}"), unique
                    aliases[unique] = f"{unique} = {original}"
                edits[start, end] = unique
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        lines = module.source.split(b"\n")
        while first > 1 and lines[first - 2].startswith(b"#"):
            first -= 1  # the comment above belongs to it
        start, (_, end) = module.offset(first, 0), module.span(node)
        text = module.source[start:end]
        for (left, right), new in sorted(edits.items(), reverse=True):
            text = text[: left - start] + new.encode() + text[right - start :]
        result = re.sub(r"\n{3,}", "\n\n", text.decode())
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            unique_name = self._unique(module.name, node.name)
            result = re.sub(rf"^(def|class) {node.name}\b", rf"\1 {unique_name}", result, count=1, flags=re.M)
        return "\n\n\n".join([*aliases.values(), _with_table(module, result)])

    def _removals(self, module: _Module, node: ast.stmt) -> Iterator[tuple[tuple[int, int], str]]:
        """What a definition loses: spans of the source, and what replaces them."""
        exported = isinstance(node, ast.ClassDef) and node.name == self.class_name
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if isinstance(base, ast.Name) and base.id in module.left_out:
                    start, end = module.span(base)
                    yield (start, end + len(", ") * module.source[end:].startswith(b", ")), ""
        for one in ast.walk(node):
            if exported and isinstance(one, ast.FunctionDef) and one.name in self.without:
                first = min([one.lineno, *(decorator.lineno for decorator in one.decorator_list)])
                yield (module.offset(first, 0), module.span(one)[1] + 1), ""
            elif isinstance(one, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(one, clean=False) is not None:
                if exported and (one is node or not one.name.startswith("_")):
                    continue
                start, end = module.span(one.body[0])
                if len(one.body) == 1:
                    yield (start, end), "pass"
                else:
                    yield (module.offset(one.body[0].lineno, 0), end + 1), ""


def _parse(name: str) -> _Module:
    source = Path(str(import_module(name).__file__)).read_bytes()
    line_starts = [0]
    for line in source.splitlines(keepends=True):
        line_starts.append(line_starts[-1] + len(line))
    module = _Module(name, source, line_starts)
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            _note_import(node, module)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                if isinstance(statement, ast.Import | ast.ImportFrom):
                    _note_import(statement, module)
        elif not isinstance(node, ast.Expr):  # docstrings, and calls such as that of the registration
            module.definitions.append(node)
    return module


def _note_import(node: ast.Import | ast.ImportFrom, module: _Module) -> None:
    for alias in node.names:
        name = alias.asname or alias.name
        if isinstance(node, ast.Import):
            module.imports[alias.asname or name.split(".")[0]] = (f"import {alias.name}", alias.name)
            continue
        origin = node.module or ""
        if node.level:
            origin = ".".join([*module.name.split(".")[: -node.level], *([origin] if origin else [])])
        if origin == "__future__":
            module.lazy_annotations = module.lazy_annotations or name == "annotations"
        elif origin.startswith(_LEFT_OUT):
            module.left_out.add(name)
        elif origin.split(".")[0] == _PACKAGE:
            module.own_imports[name] = (origin, alias.name)
        else:
            module.imports[name] = (f"from {origin} import {alias.name}", alias.name)


def _bound_by(node: ast.stmt, inner: bool = False) -> set[str]:
    """The names that a statement at the top of a module defines, or those that are assigned anywhere within it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and not inner:
        return {node.name}
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _global_names(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[ast.Name]:
    """The names in a statement that do not belong to a function, lambda or comprehension within it."""
    if isinstance(node, ast.Name):
        if node.id not in local:
            yield node
        return
    inner = local
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        inner = local | {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
    if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        inner = inner | _stored_in(node)
    for child_name, children in ast.iter_fields(node):
        outside = isinstance(node, ast.FunctionDef) and child_name in ("decorator_list", "returns", "args")
        for child in children if isinstance(children, list) else [children]:
            if isinstance(child, ast.AST):
                yield from _global_names(child, local if outside else inner)


def _stored_in(scope: ast.AST) -> set[str]:
    """The names that a function, lambda or comprehension assigns itself."""
    stored: set[str] = set()
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stored.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            stored.add(node.name)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            stored |= _stored_in(node)
    return stored


def _with_table(module: _Module, text: str) -> str:
    """The text with the content of a data file in place of the call that reads it."""
    table = re.search(r'resources\.files\(__package__\)\.joinpath\("([^"]+)"\)\.read_text\(encoding="utf-8"\)', text)
    if table is None:
        return text
    content = (Path(str(import_module(module.name).__file__)).parent / table[1]).read_text(encoding="utf-8")
    return text.replace(table[0], f'"""\\\n{content}"""')
