"""Two hundred and more wrong files, each refused in one line that names the place, exit code 2."""

import pytest
from helpers import mutants
from helpers.mutants import CSV, FLEET, OUTAGES, SWEEP, TAPE, broken, cells, document, tables

from jaxwan import api
from jaxwan.cli import main
from jaxwan.experiment.sweepfile import Sweep

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
