"""The stub says what the module has: same functions, same parameters, same defaults."""

import ast
import inspect
from pathlib import Path

import adit
from adit import _rust

STUB = ast.parse((Path(adit.__file__).parent / "_rust.pyi").read_text())
STUBBED = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}


def test_stub_and_module_have_the_same_functions():
    built = {name for name, value in vars(_rust).items() if callable(value)}
    assert built == set(STUBBED)


def test_stub_and_module_have_the_same_parameters():
    for name, node in STUBBED.items():
        built = inspect.signature(getattr(_rust, name)).parameters.values()
        missing = len(node.args.args) - len(node.args.defaults)
        defaults = [inspect.Parameter.empty] * missing + [ast.literal_eval(value) for value in node.args.defaults]
        stubbed = list(zip([arg.arg for arg in node.args.args], defaults, strict=True))
        assert [(parameter.name, parameter.default) for parameter in built] == stubbed, name


def test_stub_documents_every_function():
    assert [name for name, node in STUBBED.items() if not ast.get_docstring(node)] == []


def test_version_is_that_of_the_workspace():
    major, minor, patch = _rust.version().split(".")
    assert (major + minor).isdigit()
    assert patch
