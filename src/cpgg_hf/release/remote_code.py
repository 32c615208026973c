"""Code for hub repositories that load with `trust_remote_code=True` where this package is not installed.

One file a component, as the libraries download one: `flatten` writes a class and all that it needs of this package,
the table of phenotypes included, into one module that imports other libraries only. Generated, never edited; a test
compares `pipelines/` with what the sources give.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from cpgg_hf.errors import PublishingError

_PACKAGE = "cpgg_hf"
# Of use only where the package is installed: what comes from here is left out, as base class and as call.
_LEFT_OUT = ("cpgg_hf.hub.mixin", "cpgg_hf.models.registration")
_HEADER = '"""{name} of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.\n\n{note}\n"""\n'
_NOTE = "Generated from the sources of cpgg_hf by `cpgg export-remote-code`, not to be edited. Apache-2.0."


@dataclass(frozen=True)
class RemoteFile:
    """A file of a hub repository: its path there, and the class it defines."""

    path: str
    module: str
    class_name: str


FILES = (
    RemoteFile("pipeline_cpgg.py", "cpgg_hf.pipeline_cpgg", "CPGGPipeline"),
    RemoteFile("phenotype_vae/phenotype_vae.py", "cpgg_hf.models.phenotype_vae", "CPGGPhenotypeVAE"),
    RemoteFile("mar/modeling_cpgg_mar.py", "cpgg_hf.models.modeling_cpgg_mar", "CPGGMARModel"),
    RemoteFile("vae/autoencoder_kl_cpgg.py", "cpgg_hf.models.autoencoder_kl_cpgg", "AutoencoderKLCPGG"),
    RemoteFile("scheduler/scheduling_cpgg_ddpm.py", "cpgg_hf.models.scheduling_cpgg_ddpm", "CPGGDDPMScheduler"),
)


def export_remote_code(out: Path) -> list[Path]:
    """Write all files into a folder; returns their paths."""
    written = []
    for file in FILES:
        path = out / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(flatten(file.module, file.class_name), encoding="utf-8")
        written.append(path)
    return written


def changed_remote_code(out: Path) -> list[str]:
    """The files in a folder that are not what the sources give, or are missing."""
    return [
        file.path
        for file in FILES
        if not (out / file.path).is_file()
        or (out / file.path).read_text(encoding="utf-8") != flatten(file.module, file.class_name)
    ]


@cache
def flatten(module: str, class_name: str) -> str:
    """One module's text: a class of this package and everything of the package that it needs.

    Raises:
        PublishingError: the sources use what cannot be flattened; the message names it.
    """
    sources = _Sources()
    sources.need(module, class_name)
    return _HEADER.format(name=class_name, note=_NOTE) + "\n" + sources.text()


@dataclass
class _Definition:
    """A statement at the top of a module: its text, the names that it binds and those it uses."""

    text: str
    binds: set[str]
    uses: set[str]


@dataclass
class _Module:
    """A parsed module: its definitions in order, and where its other names come from."""

    name: str
    definitions: list[_Definition] = field(default_factory=list)
    own_imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (module of the package, name there)
    imports: dict[str, str] = field(default_factory=dict)  # name: the statement that imports it
    needed: set[int] = field(default_factory=set)


class _Sources:
    """What has been found to be needed, module by module."""

    def __init__(self) -> None:
        self.modules: dict[str, _Module] = {}
        self.imports: dict[str, str] = {}
        self.homes: dict[str, str] = {}

    def need(self, module_name: str, name: str) -> None:
        """Takes the definition of a name, and everything that it uses, before whatever came to need it."""
        module = self._module(module_name)
        for index, definition in enumerate(module.definitions):
            if name in definition.binds:
                if index not in module.needed:
                    module.needed.add(index)
                    for bound in definition.binds:
                        if self.homes.setdefault(bound, module_name) != module_name:
                            raise PublishingError(
                                f"{bound} is defined in {self.homes[bound]} and in {module_name}; one file cannot "
                                "hold both: rename one."
                            )
                    for used in sorted(definition.uses):
                        self.need(module_name, used)
                return
        if name in module.own_imports:
            self.need(*module.own_imports[name])
        elif name in module.imports:
            statement = module.imports[name]
            if self.imports.setdefault(name, statement) != statement:
                raise PublishingError(f"{name} is imported by {self.imports[name]!r} and {statement!r}; use one.")

    def text(self) -> str:
        """Imports, then the definitions of each module in their own order."""
        sections = []
        for module in self._in_order():
            chosen = [module.definitions[index].text for index in sorted(module.needed)]
            sections.append(f"# ---- {module.name}\n\n\n" + "\n\n\n".join(chosen))
        return "\n".join(_import_lines(self.imports.values())) + "\n\n\n" + "\n\n\n".join(sections) + "\n"

    def _in_order(self) -> list[_Module]:
        """The modules that something is needed of, each after those that it imports from."""
        ordered: dict[str, _Module] = {}

        def visit(module: _Module) -> None:
            for origin, _ in module.own_imports.values():
                if origin in self.modules and origin not in ordered:
                    visit(self.modules[origin])
            ordered[module.name] = module

        for module in self.modules.values():
            visit(module)
        return [module for module in ordered.values() if module.needed]

    def _module(self, name: str) -> _Module:
        if name not in self.modules:
            self.modules[name] = _parse(name)
        return self.modules[name]


def _parse(name: str) -> _Module:
    path = Path(str(import_module(name).__file__))
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    module = _Module(name)
    left_out: set[str] = set()
    end_of_last = 0
    for node in ast.parse(source).body:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        while first - 1 > end_of_last and lines[first - 2].startswith("#"):
            first -= 1  # the comment above belongs to it
        end_of_last = node.end_lineno or node.lineno
        if isinstance(node, ast.Import | ast.ImportFrom):
            _note_import(node, module, left_out)
        elif isinstance(node, ast.If) and _is_type_checking(node):
            for statement in node.body:
                if isinstance(statement, ast.Import | ast.ImportFrom):
                    _note_import(statement, module, left_out)
        elif not isinstance(node, ast.Expr):  # docstrings and calls, such as that of the registration
            text = "\n".join(lines[first - 1 : end_of_last])
            module.definitions.append(_definition(node, text, path, left_out))
    return module


def _note_import(node: ast.Import | ast.ImportFrom, module: _Module, left_out: set[str]) -> None:
    for alias in node.names:
        name = alias.asname or alias.name
        if isinstance(node, ast.Import):
            module.imports[name.split(".")[0]] = f"import {alias.name}" + (f" as {name}" if alias.asname else "")
            continue
        origin = node.module or ""
        if origin == "__future__" or node.level:
            raise PublishingError(f"{module.name} imports from {origin or 'a relative module'}: write it without.")
        if origin.startswith(_LEFT_OUT):
            left_out.add(name)
        elif origin.split(".")[0] != _PACKAGE:
            module.imports[name] = f"from {origin} import {alias.name}" + (f" as {name}" if alias.asname else "")
        elif alias.asname:
            raise PublishingError(f"{module.name} imports {alias.name} as {name}: use the name that it has.")
        else:
            module.own_imports[name] = (origin, alias.name)


def _definition(node: ast.stmt, text: str, path: Path, left_out: set[str]) -> _Definition:
    """A statement without what is left out, and with a table's text in place of its file."""
    if isinstance(node, ast.ClassDef):
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in left_out:
                text = re.sub(rf"\b{base.id}, ", "", text, count=1)
    inner = [one for one in ast.walk(node) if isinstance(one, ast.ImportFrom | ast.Import)]
    if any((getattr(one, "module", None) or "").startswith(_PACKAGE) for one in inner):
        raise PublishingError(f"{path.name} imports from {_PACKAGE} inside {node.lineno}: import at the top.")
    table = re.search(r'resources\.files\(__package__\)\.joinpath\("([^"]+)"\)\.read_text\(encoding="utf-8"\)', text)
    if table:
        text = text.replace(table[0], f'"""\\\n{(path.parent / table[1]).read_text(encoding="utf-8")}"""')
        node = ast.parse(text).body[0]
    binds = set(_bound_by(node))
    uses = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} - left_out - binds
    return _Definition(text, binds, uses)


def _bound_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))
    else:
        raise PublishingError(f"a {type(node).__name__} at the top of a module cannot be flattened: use a function.")


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _import_lines(statements: Iterable[str]) -> list[str]:
    """One name a line, by module."""
    return sorted(set(statements), key=lambda statement: (statement.split()[1], statement))
