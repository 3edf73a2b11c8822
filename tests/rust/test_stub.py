"""The stub says what the module has: same functions, same parameters, same defaults."""

import ast
import inspect
from pathlib import Path

import adit
from adit import _rust

STUB = ast.parse((Path(adit.__file__).parent / "_rust.pyi").read_text())
STUBBED = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
METHODS = {
    (name, node.name): node
    for name, parent in CLASSES.items()
    for node in parent.body
    if isinstance(node, ast.FunctionDef)
}


def test_stub_and_module_have_the_same_functions_and_classes():
    built = {name for name, value in vars(_rust).items() if callable(value)}
    assert built == {*STUBBED, *CLASSES}


def test_stub_and_module_have_the_same_methods():
    for name in CLASSES:
        built = {method for method in vars(getattr(_rust, name)) if method == "__len__" or method[0] != "_"}
        assert built == {method for owner, method in METHODS if owner == name and method != "__new__"}


def test_methods_have_the_same_parameters():
    for (owner, name), node in METHODS.items():
        if name == "__len__":
            continue
        named = inspect.signature(getattr(_rust, owner) if name == "__new__" else getattr(getattr(_rust, owner), name))
        stubbed = [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs) if arg.arg != "cls"]
        assert list(named.parameters) == stubbed, name


def test_stub_and_module_have_the_same_parameters():
    for name, node in STUBBED.items():
        built = inspect.signature(getattr(_rust, name)).parameters.values()
        missing = len(node.args.args) - len(node.args.defaults)
        defaults = [inspect.Parameter.empty] * missing + [ast.literal_eval(value) for value in node.args.defaults]
        defaults += [ast.literal_eval(value) for value in node.args.kw_defaults if value]
        stubbed = list(zip([arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)], defaults, strict=True))
        assert [(parameter.name, parameter.default) for parameter in built] == stubbed, name


def test_stub_documents_every_function():
    documented = {**STUBBED, **CLASSES, **{key: node for key, node in METHODS.items() if key[1] != "__len__"}}
    assert [name for name, node in documented.items() if not ast.get_docstring(node)] == []


def test_version_is_that_of_the_workspace():
    major, minor, patch = _rust.version().split(".")
    assert (major + minor).isdigit()
    assert patch
