"""Two hundred and more wrong files, each refused in one line that names the place, exit code 2."""

import shutil
from typing import Any, NamedTuple

import pytest
from frames import rows_and_curves
from helpers import mutants
from helpers.mutants import CSV, FLEET, OUTAGES, SWEEP, TAPE, broken, cells, document, tables

from jaxwan import api
from jaxwan.cli import main
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.store import Store

FIGURES = ("speed", "up_bps", "down_bps", "delay_s", "loss", "jitter_s")


class Kind(NamedTuple):
    """A kind of file: its mutants, what they are called, the command, and a sweep that names it."""

    wrong: list[mutants.Mutant]
    file: str
    words: tuple[str, ...]
    sweep: dict[str, Any] | None = None


def naming(field, value, **grid):
    """Return the right sweep with one of its overrides naming a file."""
    own = mutants.changed(SWEEP, ("overrides", field), mutants.put(value))
    own["grid"] |= grid
    return own


SWEEPING = ("sweep", "sweep.toml", "--out", "out")
REPLAY, WEATHER = {"replay": "down.csv"}, {"weather": {"trace": "tape.csv"}}
KINDS = (
    Kind([*tables("sweep", SWEEP), *broken("sweep", document(SWEEP))], "sweep.toml", SWEEPING),
    Kind([*tables("fleet", FLEET), *broken("fleet", document(FLEET))], "mine.toml",
         ("run", "--challenge", "mine.toml")),
    Kind([*cells("workers", CSV, FIGURES)], "mine.csv", ("run", "--challenge", "mine.csv")),
    Kind([*cells("outages", OUTAGES, ("down_s", "up_s"))], "down.csv", SWEEPING,
         naming("failures", REPLAY, challenge="fleet.toml")),
    Kind([*cells("tape", TAPE, ("time_s", "bandwidth_bps"))], "tape.csv", SWEEPING,
         naming("link", WEATHER)),
)  # fmt: skip
CASES = [pytest.param(kind, mutant, id=mutant.name) for kind in KINDS for mutant in kind.wrong]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder with a right fleet, where running anything is a failure."""
    monkeypatch.chdir(tmp_path)
    write("fleet.toml", document(FLEET))

    def ran(*_args, **_fields):
        pytest.fail("a wrong file was run")

    monkeypatch.setattr(api, "run", ran)
    monkeypatch.setattr(api, "simulate", ran)


def write(name, text):
    with open(name, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def refused(monkeypatch, capsys, *words):
    """Run a command that must be refused; return the one line on stderr."""
    monkeypatch.setattr("sys.argv", ["jaxwan", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr().err
    assert stop.value.code == 2, told
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1, told
    assert told.startswith("error ")
    return told


def test_there_are_more_than_two_hundred():
    assert len({mutant.name for kind in KINDS for mutant in kind.wrong}) > 200


def test_the_files_that_mutate_are_right():
    """Otherwise every mutant would be refused for what is wrong with all of them."""
    write("workers.csv", CSV)
    write("down.csv", OUTAGES)
    write("tape.csv", TAPE)
    own = naming("failures", REPLAY, challenge=["fleet.toml", "workers.csv"], aggregator="mean")
    own["overrides"]["link"] = WEATHER
    for table in (SWEEP, own):
        write("sweep.toml", document(table))
        assert Sweep.from_toml("sweep.toml").resolve()[0]


@pytest.mark.parametrize(("kind", "mutant"), CASES)
def test_a_wrong_file_is_refused_by_its_place(kind, mutant, monkeypatch, capsys):
    if kind.sweep is not None:
        write("sweep.toml", document(kind.sweep))
    write(kind.file, mutant.text)
    told = refused(monkeypatch, capsys, *kind.words)
    assert kind.file in told
    assert mutant.place in told


def emptied(content):
    return b""


def halved(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def grown(content):
    return content + b"0"


def noise(content):
    return bytes(range(256)) * 4


def listed(content):
    return b"[1, 2]"


DAMAGE = {
    "is empty": emptied, "is cut in half": halved, "has a byte flipped": flipped,
    "has a byte too many": grown, "is noise": noise, "is another thing": listed,
}  # fmt: skip
FILES = ("manifest.json", "parts/c0.json", "parts/c0.parquet", "parts/c1.curves.parquet")
HARMLESS = {("manifest.json", "has a byte flipped")}  # it may hit a word of the question
WHERE = [(name, how) for name in FILES for how in DAMAGE if (name, how) not in HARMLESS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a small finished sweep."""
    frame, curves = rows_and_curves(seeds=4, challenges=("wan_bandwidth",))
    chunks = [{"name": name, "program": 0, "runs": 4, "shape": 4} for name in ("c0", "c1")]
    facts = {"sweep": {"seeds": [0, 1, 2, 3]}, "chunks": chunks, "question": "Is it refused?"}
    store = Store.open(tmp_path_factory.mktemp("whole") / "out", facts)
    for place, chunk in enumerate(chunks):
        rows = frame.iloc[place * 4 : place * 4 + 4]
        store.write(chunk["name"], rows, curves[curves["run_id"].isin(rows["run_id"])])
    store.finish()
    return store.path


@pytest.mark.parametrize(("name", "how"), WHERE)
def test_a_damaged_store_is_refused_by_name(name, how, whole, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(whole, tmp_path / "out")
    file = folder / name
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    if name.endswith("curves.parquet"):
        told = refused(monkeypatch, capsys, "report", str(folder))
    else:
        options = ("--by", "compressor", "--metric", "throughput_ratio")
        told = refused(monkeypatch, capsys, "compare", str(folder), *options)
    assert name.rsplit("/", 1)[-1] in told


@pytest.mark.parametrize("name", ["c0.parquet", "c0.curves.parquet", "c0.json"])
def test_a_part_of_another_chunk_is_refused_by_name(name, whole, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(whole, tmp_path / "out")
    shutil.copy(folder / "parts" / name.replace("c0", "c1"), folder / "parts" / name)
    told = refused(monkeypatch, capsys, "report", str(folder))
    assert name in told
    assert "foreign" in told


def test_the_store_that_is_damaged_was_whole(whole, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jaxwan", "verify", str(whole)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0, capsys.readouterr()
