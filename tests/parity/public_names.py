"""Prints the public names of a package with their parameters, as JSON; runs in any environment.

$ python public_names.py PACKAGE MODULE…
"""

import ast
import importlib
import inspect
import json
import sys
import textwrap


def names_of(package, modules):
    """Names such as ``caching.Cacheable.save``, each with its parameters in order; None for what is not called."""
    found = {name: None for name in vars(importlib.import_module(package)) if not name.startswith("_")}
    for module_name in modules:
        module = importlib.import_module(f"{package}.{module_name}")
        for name in defined_in(module):
            value = getattr(module, name)
            found[f"{module_name}.{name}"] = parameters(value)
            if inspect.isclass(value):
                own = members(value)
                inherited = [members(base) for base in value.__mro__[1:-1]]
                for member, named in own.items():
                    if not any(member in base and base[member] == named for base in inherited):
                        found[f"{module_name}.{name}.{member}"] = named
    return found


def defined_in(module):
    """The public names that a module defines itself."""
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            targets = [statement.name]
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            assigned = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            targets = [target.id for target in assigned if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in targets if not name.startswith("_"))


def members(kind):
    """Methods and attributes of a class itself, those that its constructor sets among them."""
    found = {name: parameters(value)[1:] for name, value in vars(kind).items() if inspect.isfunction(value)}
    constructor = vars(kind).get("__init__")
    if inspect.isfunction(constructor) and hasattr(constructor, "__code__"):
        found |= dict.fromkeys(set_by(constructor))
    found |= {name: None for name in (*vars(kind), *vars(kind).get("__annotations__", ())) if name not in found}
    return {name: named for name, named in found.items() if not name.startswith("_")}


def set_by(constructor):
    """The attributes of itself that a constructor assigns."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    except (OSError, SyntaxError):  # made by a dataclass
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def parameters(value):
    """The names of what a function or class is called with; None for anything else."""
    if not callable(value):
        return None
    try:
        found = inspect.signature(value).parameters.values()
    except ValueError:  # exceptions have none
        return []
    return [p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


if __name__ == "__main__":
    print(json.dumps(names_of(sys.argv[1], sys.argv[2:])))
