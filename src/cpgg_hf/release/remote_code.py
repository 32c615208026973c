"""Code for Hub repositories that load with `trust_remote_code=True` where this package is not installed.

The libraries download one file per component, so `flatten` writes a class and everything that it needs from this
package, the table of phenotypes included, into one module that only imports other libraries. Checks of files, fitting
and docstrings of internal functions are left out. Names stay as they are, so no two modules that end up in one file
may define the same name.
"""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from cpgg_hf.errors import PublishingError

_PACKAGE = "cpgg_hf"
_LEFT_OUT = "HubPolicyMixin"  # base class of what this package itself saves and loads
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
    RemoteFile(
        "pipeline_cpgg.py", "cpgg_hf.pipeline_cpgg", "CPGGPipeline", without=("from_pretrained", "save_pretrained")
    ),
    RemoteFile(
        "phenotype_vae/phenotype_vae.py",
        "cpgg_hf.models.phenotype_vae",
        "CPGGPhenotypeVAE",
        without=("from_phenotypes", "fit_sampler", "forward", "encode"),
    ),
    RemoteFile(
        "mar/modeling_cpgg_mar.py",
        "cpgg_hf.models.modeling_cpgg_mar",
        "CPGGMARModel",
        without=("load_adapter", "delete_adapter"),
    ),
    RemoteFile(
        "vae/autoencoder_kl_cpgg.py",
        "cpgg_hf.models.autoencoder_kl_cpgg",
        "AutoencoderKLCPGG",
        without=("forward", "standardise"),
    ),
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
        module: the module that defines the class.
        class_name: the class; only its public methods keep their docstrings.
        without: methods of the class to leave out.

    Raises:
        PublishingError: a function imports from the package (imports belong at the top), an import renames a name of
            the package, or two modules define the same name.
    """
    flattened = _Flattened(class_name, without)
    flattened.need(module, class_name)
    return _HEADER.format(name=class_name, note=_NOTE) + "\n" + flattened.text()


@dataclass
class _Module:
    """A parsed module of the package: its statements and imports by the names that they bind."""

    name: str
    lines: list[str]
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    own_imports: dict[str, str] = field(default_factory=dict)  # name: module of the package
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (library, what is imported)
    texts: dict[int, str] = field(default_factory=dict)  # text of each needed definition, by its line


class _Flattened:
    """The definitions and imports found so far."""

    def __init__(self, class_name: str, without: tuple[str, ...]) -> None:
        self.class_name, self.without = class_name, without
        self.modules: dict[str, _Module] = {}
        self.origins: dict[str, str] = {}
        self.imports: set[tuple[str, str]] = set()

    def need(self, module_name: str, name: str) -> None:
        """Adds a name and everything that its definition uses; does nothing for builtins and local variables."""
        if module_name not in self.modules:
            self.modules[module_name] = _parse(module_name)
        module = self.modules[module_name]
        if name in module.definitions:
            if self.origins.setdefault(name, module_name) != module_name:
                raise PublishingError(f"{self.origins[name]} and {module_name} both define {name}; rename one.")
            node = module.definitions[name]
            if node.lineno not in module.texts:
                module.texts[node.lineno] = ""  # recursion ends here
                module.texts[node.lineno] = self._definition(module, node)
        elif name in module.own_imports:
            self.need(module.own_imports[name], name)
        elif name in module.imports:
            self.imports.add(module.imports[name])

    def text(self) -> str:
        """Imports, then the definitions of each module in their own order."""
        sections = []
        for module in self._in_order():
            texts = [module.texts[line] for line in sorted(module.texts)]
            sections.append(f"# ---- {module.name}\n\n\n" + "\n\n\n".join(texts))
        body = "\n\n\n".join(sections)
        imports, grouped = [], defaultdict(list)
        for library, imported in sorted(self.imports):
            # A table's text has replaced the only use of some imports.
            if not re.search(rf"\b{(imported or library).split()[-1].split('.')[0]}\b", body):
                continue
            if imported:
                grouped[library].append(imported)
            else:
                imports.append(f"import {library}")
        imports += [f"from {library} import {', '.join(names)}" for library, names in grouped.items()]
        return "\n".join(imports) + "\n\n\n" + body + "\n"

    def _in_order(self) -> list[_Module]:
        """The modules with needed definitions, each after those that it imports from."""
        ordered: dict[str, _Module] = {}

        def visit(module: _Module) -> None:
            for origin in module.own_imports.values():
                if origin in self.modules and origin not in ordered:
                    visit(self.modules[origin])
            ordered[module.name] = module

        for module in self.modules.values():
            visit(module)
        return [module for module in ordered.values() if module.texts]

    def _definition(self, module: _Module, node: ast.stmt) -> str:
        """The text of a statement without left-out methods, the base class and docstrings of internal functions."""
        changed: dict[int, str | None] = {}  # by line; None = dropped
        exported = isinstance(node, ast.ClassDef) and node.name == self.class_name
        if isinstance(node, ast.ClassDef) and exported:
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name in self.without]
            node.body = [one for one in node.body if one not in methods]
            changed |= {line: None for method in methods for line in _lines(method)}
        for one in ast.walk(node):
            if isinstance(one, ast.Import | ast.ImportFrom) and _PACKAGE in ast.unparse(one):
                raise PublishingError(
                    f"{module.name} imports from {_PACKAGE} in line {one.lineno}; import at the top."
                )
            if isinstance(one, ast.Name) and one.id != _LEFT_OUT:
                self.need(module.name, one.id)
            if isinstance(one, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(one) is not None:
                if exported and (one is node or not one.name.startswith("_")):
                    continue
                docstring = one.body[0]
                changed |= dict.fromkeys(_lines(docstring))
                if len(one.body) == 1:
                    changed[docstring.lineno] = " " * docstring.col_offset + "pass"
        lines = _lines(node)
        first = lines.start
        while module.lines[first - 2].startswith("#"):
            first -= 1  # the comment above belongs to it
        kept = (changed.get(line, module.lines[line - 1]) for line in range(first, lines.stop))
        text = "\n".join(line for line in kept if line is not None).replace(f"{_LEFT_OUT}, ", "")
        return _with_table(module, re.sub(r"\n{3,}", "\n\n", text))


def _lines(node: ast.stmt) -> range:
    """The numbers of a statement's lines, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return range(min(one.lineno for one in (node, *decorators)), (node.end_lineno or node.lineno) + 1)


def _parse(name: str) -> _Module:
    source = Path(str(import_module(name).__file__)).read_text(encoding="utf-8")
    module = _Module(name, source.splitlines())
    statements = list(ast.parse(source).body)
    for node in statements:
        if isinstance(node, ast.If):  # TYPE_CHECKING
            statements += node.body
        elif isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                module.imports[bound] = (ast.unparse(ast.Import([alias])).removeprefix("import "), "")
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if str(node.module).split(".")[0] != _PACKAGE:
                    module.imports[alias.asname or alias.name] = (str(node.module), ast.unparse(alias))
                elif alias.asname:
                    raise PublishingError(f"{name} imports {alias.name} as {alias.asname}; keep its name.")
                else:
                    module.own_imports[alias.name] = str(node.module)
        elif not isinstance(node, ast.Expr):  # docstrings, and calls such as that of the registration
            module.definitions |= dict.fromkeys(_bound_by(node), node)
    return module


def _bound_by(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = getattr(node, "targets", [getattr(node, "target", node)])  # of assignments with or without annotation
    return {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}


def _with_table(module: _Module, text: str) -> str:
    """The text with the content of a data file in place of the call that reads it."""
    table = re.search(r'resources\.files\(__package__\)\.joinpath\("([^"]+)"\)\.read_text\(encoding="utf-8"\)', text)
    if table is None:
        return text
    content = (Path(str(import_module(module.name).__file__)).parent / table[1]).read_text(encoding="utf-8")
    return text.replace(table[0], f'"""\\\n{content}"""')
