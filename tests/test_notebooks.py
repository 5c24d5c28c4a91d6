"""The notebooks: every one runs from top to bottom, and none holds a simulation or an output."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|tmp|work|root|mnt|content)/|[A-Z]:\\")
DRAWS = r"\.(plot|draw)\("
MOST_PROGRAMS = 6
RUNNER = """
import json, re, sys
import pandas as pd
plain = pd.DataFrame.filter
def filtered(self, regex):
    for part in regex.split("|"):  # so that none of its parts shows nothing
        assert any(re.search(part, str(name)) for name in self), f"no column matches {part!r}"
    return plain(self, regex=regex)
pd.DataFrame.filter = filtered
names = {"__name__": "__main__"}
for number, source in enumerate(json.load(sys.stdin), 1):
    exec(compile(source, f"code cell {number}", "exec"), names)
from jaxwan import engine
print("programs:", len(engine.traces))
"""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path):
    """Return the cells of a notebook."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code_cells(path):
    """Return the code cells of a notebook as they stand."""
    return [cell for cell in cells_of(path) if cell["cell_type"] == "code"]


def python_of(cell):
    """Return the Python of a cell: a line for IPython or the shell becomes `pass`."""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)


def test_there_is_a_notebook():
    assert NOTEBOOKS


@every_notebook
def test_notebook_runs(path, tmp_path):
    sources = [python_of(cell) for cell in code_cells(path)]
    small = {"MPLBACKEND": "Agg", "JAXWAN_NOTEBOOK_SCALE": "small"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER],
        input=json.dumps(sources), text=True, capture_output=True, check=False, cwd=tmp_path,
        env=os.environ | small, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) <= MOST_PROGRAMS, "each program takes long to compile"
    drawn = list(tmp_path.rglob("*.png"))
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in drawn)
    assert bool(drawn) == any(re.search(DRAWS, source) for source in sources)


@every_notebook
def test_notebook_only_calls_the_package(path):
    for cell in code_cells(path):
        nodes = ast.walk(ast.parse(python_of(cell)))
        defined = [ast.unparse(node) for node in nodes if isinstance(node, DEFINITIONS)]
        assert not defined, f"move this into the package: {defined[0]}"


@every_notebook
def test_notebook_holds_no_output(path):
    for cell in code_cells(path):
        assert cell["outputs"] == [], cell["id"]
        assert cell["execution_count"] is None, cell["id"]
        assert "execution" not in cell["metadata"], cell["id"]


@every_notebook
def test_first_cell_installs_the_package_only_where_it_is_missing(path):
    first, *others = ["".join(cell["source"]) for cell in code_cells(path)]
    start = r'SOURCE = "\.\."  # .*\ntry:\n    import jaxwan as jw\nexcept ImportError:\n'
    assert re.match(start + r"    %pip install --quiet {SOURCE}\n", first)
    assert (FOLDER / ".." / "pyproject.toml").is_file()
    assert not [source for source in others if re.search(r"^\s*[%!]", source, re.MULTILINE)]


@every_notebook
def test_notebook_names_no_path_of_a_machine(path):
    for cell in cells_of(path):
        assert not MACHINE_PATH.search("".join(cell["source"])), cell["id"]
