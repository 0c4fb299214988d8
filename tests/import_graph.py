"""The import graph of a Python package, read from the source with `ast`, and the cycles in it.

Imports inside functions count. Imports under `if TYPE_CHECKING:` do not: they never run.
"""

import ast


def module_files(package):
    """Return {dotted name: file} of every module under the directory `package`; a stub stands for a native module."""
    found = {}
    for path in sorted(package.rglob("*.py*")):
        if path.suffix not in (".py", ".pyi"):
            continue
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph(package, *, type_checking=False):
    """Return {module: modules of the same package that it imports}; `type_checking` adds what only type checkers see.

    `from package import name` is an import of the submodule `name` if there is one, and else of the package's
    `__init__`. Importing `__version__` is no edge: each package defines it before it imports anything. A dictionary
    `_HOMES` in an `__init__` names the modules that its attributes are loaded from, so these are imports too.
    """
    files = module_files(package)
    return {name: _imports(path, files, type_checking) - {name} for name, path in files.items()}


def _imports(path, files, type_checking):
    found = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), type_checking):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import; write the whole name of the module"
            names = [alias.name for alias in node.names if alias.name != "__version__"]
            found |= {full if (full := f"{node.module}.{name}") in files else node.module for name in names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            found |= {f"{path.parent.name}.{home}" for home in ast.literal_eval(node.value).values()}
    return found & files.keys()


def _nodes(tree, type_checking):
    """Yield the nodes of a tree, those under `if TYPE_CHECKING:` only if `type_checking`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not type_checking:
            for other in node.orelse:
                yield other
                yield from _nodes(other, type_checking)
        else:
            yield node
            yield from _nodes(node, type_checking)


def find_cycle(graph):
    """Return a cycle of a graph {node: its successors} as a list that begins and ends with one node; None without one.

    >>> find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})
    ['b', 'c', 'b']
    """
    done = set()
    for start in sorted(graph):
        path, pending = [start], [iter(sorted(graph[start]))]
        while path and start not in done:
            successor = next(pending[-1], None)
            if successor is None:
                done.add(path.pop())
                pending.pop()
            elif successor in path:
                return [*path[path.index(successor) :], successor]
            elif successor not in done:
                path.append(successor)
                pending.append(iter(sorted(graph.get(successor, ()))))
    return None
