"""The house: who may import whom, who may compile, and how long a file may grow."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import jaxwan

ROOT = Path(jaxwan.__file__).parent
FLOORS = {
    "jaxwan": 0,
    "jaxwan.core": 0,
    "jaxwan.stats": 0,
    "jaxwan.columns": 0,
    "jaxwan.utilization": 0,
    "jaxwan.world": 1,
    "jaxwan.learning": 1,
    "jaxwan.experiment": 2,
    "jaxwan.engine": 3,
    "jaxwan.work": 4,
    "jaxwan.rows": 4,
    "jaxwan.memory": 4,
    "jaxwan.sweep": 4,
    "jaxwan.store": 4,
    "jaxwan.parts": 4,
    "jaxwan.manifest": 4,
    "jaxwan.integrity": 5,
    "jaxwan.merge": 5,
    "jaxwan.executors": 4,
    "jaxwan.rounds": 4,
    "jaxwan.analysis": 5,
    "jaxwan.results": 6,
    "jaxwan.streamed": 6,
    "jaxwan.bench": 6,
    "jaxwan.transfers": 4,
    "jaxwan.bandwidth": 6,
    "jaxwan.timeline": 6,
    "jaxwan.validate": 6,
    "jaxwan.decide": 6,
    "jaxwan.published": 7,
    "jaxwan.adaptive": 7,
    "jaxwan.api": 7,
    "jaxwan.cache": 4,
    "jaxwan.calls": 7,
    "jaxwan.chapters": 7,
    "jaxwan.cli": 7,
    "jaxwan.__main__": 7,
    "jaxwan.commands": 7,
    "jaxwan.arrays": 7,
    "jaxwan.families": 7,
    "jaxwan.oneshot": 7,
    "jaxwan.tornado": 7,
    "jaxwan.harness": 7,
}
STRANGERS = ("jaxwan.world", "jaxwan.learning")
WITHOUT_JAX = ("jaxwan.stats", "jaxwan.analysis", "jaxwan.columns", "jaxwan.utilization")
COMPILERS = {"jaxwan.engine", "jaxwan.bench.timing"}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def tree_of(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def room_of(name):
    """Return the entry of FLOORS that a module belongs to: the longest that fits."""
    rooms = [room for room in FLOORS if name == room or name.startswith(room + ".")]
    return max(rooms, key=len)


def imported(name):
    """Name the modules that a module imports anywhere, functions and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {each if each in FILES else node.module for each in inner}
    return found


def own(names):
    return {name for name in names if name.split(".")[0] == "jaxwan"}


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_floor(name):
    assert name == "jaxwan" or room_of(name) != "jaxwan", f"give {name} a floor"


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name):
    room = room_of(name)
    for other in own(imported(name)) - {"jaxwan"}:
        there = room_of(other)
        allowed = there == room or FLOORS[there] < FLOORS[room] or beside(room, there)
        assert allowed, f"{name} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[there]})"


def beside(room, there):
    """Tell whether two rooms of one floor may talk: all but those of floors 0 and 1."""
    return FLOORS[room] == FLOORS[there] >= 4


def test_world_and_learning_are_strangers():
    for name in FILES:
        if name.startswith(STRANGERS):
            room = room_of(name)
            met = {room_of(other) for other in own(imported(name))}
            assert not met & (set(STRANGERS) - {room}), name


def test_no_import_cycle():
    state = {}

    def visit(name, path):
        assert state.get(name) != "open", " → ".join([*path, name])
        if name not in state:
            state[name] = "open"
            for other in sorted(top_level(name) & FILES.keys()):
                visit(other, [*path, name])
            state[name] = "closed"

    for name in FILES:
        visit(name, [])


def top_level(name):
    """Name the modules of the package that a module imports when it is loaded."""
    body = [node for node in tree_of(name).body if isinstance(node, ast.ImportFrom | ast.Import)]
    found = set()
    for node in body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {each if each in FILES else node.module for each in inner}
    return own(found)


@pytest.mark.parametrize("name", [name for name in FILES if room_of(name) in WITHOUT_JAX])
def test_statistics_and_analysis_do_not_import_jax(name):
    assert not {other for other in imported(name) if other.split(".")[0] in ("jax", "optax")}


@pytest.mark.parametrize(
    "modules",
    [
        "jaxwan",
        "jaxwan.analysis.tables, jaxwan.analysis.plots, jaxwan.stats.intervals, jaxwan.results",
    ],
)
def test_importing_them_does_not_start_jax(modules):
    code = f"import {modules}, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("jaxwan.commands.")])
def test_commands_print_through_their_shell(name):
    own = name == "jaxwan.commands.shell"
    assert own or not imported(name) & {"json", "rich.console"}


def compiles(node):
    """Tell whether a node names jit: `jax.jit`, `from jax import jit`, or a bare `jit`."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("jit", "pmap")
    if isinstance(node, ast.ImportFrom):
        return any(alias.name in ("jit", "pmap") for alias in node.names)
    return isinstance(node, ast.Name) and node.id in ("jit", "pmap")


@pytest.mark.parametrize("name", [name for name in FILES if name not in COMPILERS])
def test_only_simulate_compiles(name):
    lines = [node.lineno for node in ast.walk(tree_of(name)) if compiles(node)]
    assert not lines, f"{name} names jit at line {lines}"


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_stay_short(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree_of(name)):
        if isinstance(node, kinds):
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"
