"""No import cycles between the files of crates/core/src.

A module and its descendants may know each other (`run` and `run/linear`). Siblings, each with its descendants, may not
form a cycle. Tests inside a file (`#[cfg(test)] mod tests { ... }`) may use anything.
"""

import re
from itertools import pairwise
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "crates" / "core" / "src"

Module = tuple[str, ...]
"""Path of a module from the crate's root: `crate::run::linear` is ("run", "linear"), the root is ()."""


def modules(source: Path) -> dict[Module, str]:
    """Return the code of each module, without comments, strings and test modules."""
    found = {}
    for path in source.rglob("*.rs"):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1] in ("mod", "lib"):
            parts = parts[:-1]
        found[parts] = without_tests(without_text(path.read_text()))
    return found


def without_text(code: str) -> str:
    """Remove comments and the contents of string and character literals."""
    tokens = r'//[^\n]*|/\*.*?\*/|b?"(?:\\.|[^"\\])*"|b?r(#+)".*?"\1|b?\'(?:\\[^\']*|[^\'\\])\''
    return re.sub(tokens, "", code, flags=re.DOTALL)


def without_tests(code: str) -> str:
    """Remove the modules that are written inside a file under `#[cfg(test)]`."""
    while found := re.search(r"#\[cfg\(test\)\]\s*mod \w+ \{", code):
        end, depth = found.end(), 1
        while depth:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        code = code[: found.start()] + code[end:]
    return code


def expanded(tree: str) -> list[str]:
    """Expand the braces of a `use` tree: `a::{b, c::{self, D}}` gives a::b, a::c, a::c::D."""
    tree = re.sub(r"\s+as \w+", "", tree).strip()
    opening = tree.find("{")
    if opening < 0:
        return [tree.removesuffix("::self")]
    prefix, inner = tree[:opening], tree[opening + 1 : tree.rindex("}")]
    parts, depth, start = [], 0, 0
    for at, character in enumerate(inner):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append(inner[start:at])
            start = at + 1
    parts.append(inner[start:])
    return [path for part in parts if part.strip() for path in expanded(prefix + part.strip())]


USE = re.compile(r"\b(pub(?:\([^)]*\))? )?use ([^;]+);")


def paths(code: str) -> set[str]:
    """Return the paths that begin in this crate, from `use` and from expressions."""
    used = {path for _, tree in USE.findall(code) for path in expanded(tree)}
    used |= set(re.findall(r"\b(?:crate|super|self)(?:::\w+)+", USE.sub("", code)))
    return {path for path in used if re.match(r"(crate|super|self)::", path)}


def exports(code: str) -> dict[str, str]:
    """Return what a module passes on by `pub use`: name -> path."""
    return {path.split("::")[-1]: path for public, tree in USE.findall(code) if public for path in expanded(tree)}


def resolve(path: str, module: Module, all_modules: dict[Module, str]) -> Module:
    """Return the module in which the item of a path is defined, following re-exports."""
    segments = path.split("::")
    here = module
    if segments[0] == "crate":
        here, segments = (), segments[1:]
    while segments and segments[0] in ("self", "super"):
        here, segments = (here if segments[0] == "self" else here[:-1]), segments[1:]
    while segments and (*here, segments[0]) in all_modules:
        here, segments = (*here, segments[0]), segments[1:]
    name = segments[0] if segments else ""
    exported = exports(all_modules[here]).get(name, name)
    return here if exported == name else resolve(exported, here, all_modules)  # a macro is exported under its own name


def edges(source: Path) -> dict[tuple[Module, Module], tuple[Module, Module]]:
    """Return which sibling uses which, where each stands for its descendants too, with an example of two files."""
    found = {}
    all_modules = modules(source)
    for module, code in all_modules.items():
        for path in paths(code):
            target = resolve(path, module, all_modules)
            shared = 0
            while shared < min(len(module), len(target)) and module[shared] == target[shared]:
                shared += 1
            if shared < min(len(module), len(target)):  # neither is an ancestor of the other
                found.setdefault((module[: shared + 1], target[: shared + 1]), (module, target))
    return found


def cycles(source: Path) -> list[str]:
    """Describe one cycle of uses for each module that is on one."""
    used = edges(source)
    targets: dict[Module, list[Module]] = {}
    for user, target in used:
        targets.setdefault(user, []).append(target)
    found = []
    for start in sorted(targets):
        queue, came_from = [start], {}
        while queue:
            module = queue.pop(0)
            for target in targets.get(module, []):
                if target not in came_from:
                    came_from[target] = module
                    queue.append(target)
        if start in came_from:
            way = [start, came_from[start]]
            while way[-1] != start:
                way.append(came_from[way[-1]])
            steps = [used[step] for step in pairwise(reversed(way))]
            found.append("; ".join(f"{'::'.join(user)} uses {'::'.join(target)}" for user, target in steps))
    return found


def test_files_of_the_core_crate_form_no_cycle():
    assert len(edges(CORE)) > 30, "the parser finds next to nothing"
    assert cycles(CORE) == []


def sample(directory, **files):
    """Write a crate: module name (`a__b` for a/b) -> code."""
    for name, code in {"lib": "", **files}.items():
        path = directory / f"{name.replace('__', '/')}.rs"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    return directory


@pytest.mark.parametrize(
    "files",
    [
        {"a": "use crate::b::B;", "b": "use crate::a::A;"},
        {"a": "use crate::{c, b::{self, B}};", "b": "fn f() { super::a::f() }"},
        {"a": "use super::b;", "b": "use crate::c;", "c": "fn f() -> crate::a::A {}"},
        {"lib": "pub use a::A;", "a": "use crate::b::B;", "b": "use crate::A;"},
        {"a": "", "a__x": "use crate::b::B;", "b": "", "b__y": "use crate::a::A;"},
        {"a": "", "a__x": "use super::y::Y;", "a__y": "use super::x::X;"},
        {"a": "use crate::b::B;", "b": "#[cfg(test)]\nmod tests { fn f() {} }\npub(crate) use crate::a::A as C;"},
    ],
)
def test_a_cycle_is_found(tmp_path, files):
    assert cycles(sample(tmp_path, **files))


@pytest.mark.parametrize(
    "files",
    [
        {"a": "use crate::b::B; mod x; use x::X;", "a__x": "use super::A; use crate::b;", "b": "fn f() {}"},
        {"a": "use crate::b::B;", "b": "#[cfg(test)]\nmod tests {\n fn f() { if x { use crate::a::A; } }\n}"},
        {"a": "use crate::b::B;", "b": '// use crate::a;\n/// [`crate::a::A`]\nconst TEXT: &str = "crate::a";'},
        {"lib": "pub use b::B;", "a": "use crate::B;", "b": "use std::fs;"},
        {"a__mod": "pub use y::Y;", "a__x": "use super::Y;", "a__y": "", "b": "use crate::a::Y;"},
    ],
)
def test_a_parent_a_test_and_a_comment_make_no_cycle(tmp_path, files):
    assert cycles(sample(tmp_path, **files)) == []
