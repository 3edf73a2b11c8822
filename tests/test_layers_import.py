"""Who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import adit

PACKAGE = Path(adit.__file__).parent

LAYERS = """
errors
output
pool
_rust
elements
system
packing
neighbors
symmetry
validity
matching
bonds
features
config
recipes
batch
convert
ops
flow
data
models
eval
train.checkpoint train.optim train.latents train.graphs train.meter train.loop train.vae train.dit
weights
train.reconstruct
prior
known_cell
templates
kept
steering
blocks
decoding
generate
train.validate
train.stages
train.property
adit
cli
"""
"""From the ground up: a line imports from the lines above it alone. `train` has three storeys: weights are read by
its checkpoint code, they hold an autoencoder as its runs do, and its validation generates."""

UPWARD = {
    ("adit.system", "convert"): "`to_ase` and its like import the converter when they are called",
    ("adit.convert.files", "data"): "`iread` opens a prepared data set",
    ("adit.packing", "convert"): "`as_system` imports the converter of the class that it meets",
}
"""The exceptions, by module and layer; each inside a function, with its reason."""

HEAVY = (
    "rdkit pymatgen ase triton plotly smact openbabel matplotlib spglib moyopy scipy pandas chgnet posebusters tblite"
)
FORBIDDEN = HEAVY.split()
"""What a module may not import when it is imported."""

LEVEL = {name: level for level, line in enumerate(LAYERS.strip().splitlines()) for name in line.split()}


def modules() -> list[str]:
    """Every module of the package, as `adit.data.qm9`."""
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in sorted(PACKAGE.rglob("*.py"))]
    return [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]


def path_of(module: str) -> Path:
    base = PACKAGE.parent.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def is_module(name: str) -> bool:
    return name == "adit._rust" or path_of(name).is_file()


@cache
def imports(module: str) -> list[tuple[str, int, bool]]:
    """(what, line, deferred) of each import of something of adit; deferred: in a function or for type checkers."""
    return list(_imports(ast.parse(path_of(module).read_text()), module, False))


def _imports(node: ast.AST, module: str, deferred: bool) -> Iterator[tuple[str, int, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        inside = inside or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        if isinstance(child, ast.Import):
            yield from ((name.name, child.lineno, deferred) for name in child.names if name.name.startswith("adit"))
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}:{child.lineno}: write relative imports in full"
            source = child.module or ""
            if source == "adit" or source.startswith("adit."):
                for name in child.names:
                    full = f"{source}.{name.name}"
                    yield (full if is_module(full) else source), child.lineno, deferred
        yield from _imports(child, module, inside)


def layer(module: str) -> str:
    """The name in `LAYERS` that a module belongs to: the longest that fits."""
    parts = module.split(".")[1:] or ["adit"]
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in LEVEL:
            return name
    raise AssertionError(f"{module} has no place in LAYERS")


MODULES = [module for module in modules() if module != "adit.train"]  # an empty package


def test_every_module_has_its_place() -> None:
    assert {layer(module) for module in MODULES} | {"_rust"} == set(LEVEL), "LAYERS names what is not there"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module: str) -> None:
    mine = layer(module)
    for target, line, deferred in imports(module):
        theirs = layer(target)
        if deferred and (module, theirs) in UPWARD:
            continue
        assert LEVEL[theirs] <= LEVEL[mine], f"{module}:{line} imports {target}, which stands above it"


def test_the_exceptions_are_still_needed() -> None:
    used = {(module, layer(target)) for module, _ in UPWARD for target, _, deferred in imports(module) if deferred}
    assert set(UPWARD) <= used


def test_no_cycles() -> None:
    """Neither between modules nor, among what runs at import time, through a package's `__init__`."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module in modules():
        for target, _, deferred in imports(module):
            if not deferred and target != module:
                graph[module].add(target)
                parents = target.split(".")
                graph[module] |= {".".join(parents[:k]) for k in range(2, len(parents))} - {
                    ".".join(module.split(".")[:k]) for k in range(1, module.count(".") + 2)
                }
    TopologicalSorter(graph).prepare()


def test_eval_judges_without_knowing_the_model() -> None:
    """Not even inside a function, and not through another module."""
    seen, todo = set(), [module for module in MODULES if layer(module) == "eval"]
    while todo:
        module = todo.pop()
        assert layer(module) not in ("models", "flow", "generate"), f"eval reaches {module}"
        seen.add(module)
        todo += [target for target, _, _ in imports(module) if target != "adit._rust" and target not in seen]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def python_without(libraries: list[str], code: str) -> None:
    """Runs code where these libraries cannot be imported, as if they were not installed."""
    python(f"import sys\nsys.modules.update(dict.fromkeys({libraries!r}))\n{code}")


def test_every_module_imports_with_torch_numpy_safetensors_and_rich_alone() -> None:
    """What a training or sampling node has to have: the other dependencies are for files, figures and people."""
    names = [module for module in modules() if not module.startswith("adit.cli")]
    libraries = [*FORBIDDEN, "tensorboard", "tensorflow", "typer", "click", "pooch", "platformdirs", "qm9pack"]
    python_without(libraries, f"import importlib\nfor name in {names!r}: importlib.import_module(name)")


def test_import_adit_is_quick_and_light() -> None:
    code = "import time, sys; t = time.process_time(); import adit; print(time.process_time() - t, *sys.modules)"
    runs = [python(code).split() for _ in range(3)]
    assert min(float(run[0]) for run in runs) < 0.3
    loaded = {name.split(".")[0] for name in runs[0][1:]}
    assert not loaded & {"torch", *FORBIDDEN}


def test_the_command_line_starts_light() -> None:
    """`adit-gen --help` must answer at once."""
    names = [module for module in modules() if module.startswith("adit.cli.")]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = {name.split(".")[0] for name in python(code).split()}
    assert not loaded & {"torch", *FORBIDDEN}


def test_the_table_reads_from_the_ground_up() -> None:
    """Errors and systems at the bottom, commands on top."""
    drawn = ["errors", "system", "batch", "data", "eval", "train.loop", "generate", "cli"]
    assert all(LEVEL[low] < LEVEL[high] for low, high in pairwise(drawn))
