"""Two hundred and more wrong files, each refused in one line that names the place, exit code 2."""

import shutil

import pytest
from frames import rows_and_curves
from helpers import mutants
from helpers.mutants import CSV, FLEET, OUTAGES, SWEEP, TAPE, broken, cells, document, tables

from jaxwan import api
from jaxwan.cli import main
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.store import Store

FIGURES = ("speed", "up_bps", "down_bps", "delay_s", "loss", "jitter_s")
SWEEPS = [*tables("sweep", SWEEP), *broken("sweep", document(SWEEP))]
FLEETS = [*tables("fleet", FLEET), *broken("fleet", document(FLEET))]
WORKERS = [*cells("workers", CSV, FIGURES)]
RECORDS = [*cells("outages", OUTAGES, ("down_s", "up_s"))]
TAPES = [*cells("tape", TAPE, ("time_s", "bandwidth_bps"))]


def titled(found):
    return {"argvalues": found, "ids": [mutant.name for mutant in found]}


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
    assert len({m.name for m in (*SWEEPS, *FLEETS, *WORKERS, *RECORDS, *TAPES)}) > 200


def test_the_files_that_mutate_are_right():
    """Otherwise every mutant would be refused for what is wrong with all of them."""
    write("workers.csv", CSV)
    write("down.csv", OUTAGES)
    write("tape.csv", TAPE)
    own = mutants.changed(SWEEP, ("overrides", "failures"), mutants.put({"replay": "down.csv"}))
    own["grid"] |= {"challenge": ["fleet.toml", "workers.csv"], "aggregator": "mean"}
    own["overrides"]["link"] = {"weather": {"trace": "tape.csv"}}
    for table in (SWEEP, own):
        write("sweep.toml", document(table))
        assert Sweep.from_toml("sweep.toml").resolve()[0]


@pytest.mark.parametrize("mutant", **titled(SWEEPS))
def test_a_wrong_sweep_file_is_refused(mutant, monkeypatch, capsys):
    write("sweep.toml", mutant.text)
    told = refused(monkeypatch, capsys, "sweep", "sweep.toml", "--out", "out")
    assert "sweep.toml" in told
    assert mutant.place in told


@pytest.mark.parametrize("mutant", **titled(FLEETS))
def test_a_wrong_fleet_is_refused(mutant, monkeypatch, capsys):
    write("mine.toml", mutant.text)
    told = refused(monkeypatch, capsys, "run", "--challenge", "mine.toml")
    assert "mine.toml" in told
    assert mutant.place in told


@pytest.mark.parametrize("mutant", **titled(WORKERS))
def test_a_wrong_list_of_workers_is_refused(mutant, monkeypatch, capsys):
    write("mine.csv", mutant.text)
    told = refused(monkeypatch, capsys, "run", "--challenge", "mine.csv")
    assert "mine.csv" in told
    assert mutant.place in told


@pytest.mark.parametrize("mutant", **titled(RECORDS))
def test_wrong_recorded_outages_are_refused(mutant, monkeypatch, capsys):
    write("down.csv", mutant.text)
    own = mutants.changed(SWEEP, ("overrides", "failures"), mutants.put({"replay": "down.csv"}))
    own["grid"]["challenge"] = "fleet.toml"
    write("sweep.toml", document(own))
    told = refused(monkeypatch, capsys, "sweep", "sweep.toml", "--out", "out")
    assert "down.csv" in told
    assert mutant.place in told


@pytest.mark.parametrize("mutant", **titled(TAPES))
def test_wrong_recorded_bandwidth_is_refused(mutant, monkeypatch, capsys):
    write("tape.csv", mutant.text)
    own = mutants.changed(
        SWEEP, ("overrides", "link"), mutants.put({"weather": {"trace": "tape.csv"}})
    )
    write("sweep.toml", document(own))
    told = refused(monkeypatch, capsys, "sweep", "sweep.toml", "--out", "out")
    assert "tape.csv" in told
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
