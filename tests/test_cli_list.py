"""The command line: lists, one-line errors and their exit code."""

import io
import json
import subprocess
import sys

import pytest

from jaxwan import cli
from jaxwan.commands.fields import member_of
from jaxwan.commands.listing import as_table


def call(monkeypatch, capsys, *words):
    """Run the command line in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["jaxwan", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


@pytest.fixture
def jaxwan(monkeypatch, capsys):
    """Return a function that calls the command line."""
    return lambda *words: call(monkeypatch, capsys, *words)


KINDS = {
    "networks": "satellite",
    "scenarios": "simple",
    "challenges": "byzantine",
    "failures": "planetlab",
    "devices": "rtx_4090",
    "providers": "aws_inter_region",
    "strategies": "async",
    "compressors": "topk",
    "aggregators": "median",
    "attacks": "sign_flip",
    "optimizers": "adamw",
    "problems": "mlp",
    "exchanges": "ring",
    "transports": "cubic",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed(jaxwan, kind):
    code, text, _ = jaxwan("list", kind, "--json")
    assert code == 0
    assert KINDS[kind] in [record["name"] for record in json.loads(text)]


def test_the_simple_scenario_has_the_parameters_of_its_model(jaxwan):
    [simple] = [r for r in json.loads(jaxwan("list", "scenarios", "--json")[1])
                if r["name"] == "simple"]  # fmt: skip
    assert simple["parameters"] == 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10
    assert simple["gradient_bytes"] == 4 * simple["parameters"]
    assert simple["stars"] == 1


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_fit_the_terminal(kind, width):
    from rich.console import Console

    from jaxwan.experiment.listing import rows

    console = Console(width=width, file=io.StringIO())
    console.print(as_table(rows(kind)))
    text = console.file.getvalue()
    assert KINDS[kind] in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_show_knows_names_and_files(jaxwan, tmp_path):
    assert json.loads(jaxwan("show", "network", "edge", "--json")[1])["bandwidth_bps"] == 5e6
    assert "(0, 1]" in jaxwan("show", "compressor", "topk")[1]
    file = tmp_path / "mine.toml"
    file.write_text("bandwidth_bps = 3e6\n")
    assert json.loads(jaxwan("show", "network", file, "--json")[1])["bandwidth_bps"] == 3e6


def test_show_tells_what_a_fixed_setting_may_be(jaxwan):
    settings = json.loads(jaxwan("show", "strategy", "async", "--json")[1])["settings"]
    assert settings["on_stale"]["allowed"] == ["reject", "block"]
    settings = json.loads(jaxwan("show", "problem", "mlp", "--json")[1])["settings"]
    assert settings["batch"]["allowed"] == "[1, 65536]"
    assert "allowed" not in settings["widths"]


def test_pre_aggregators_are_listed(jaxwan):
    from jaxwan.learning.aggregators import PRE_AGGREGATORS

    code, text, _ = jaxwan("list", "pre_aggregators", "--json")
    assert code == 0
    assert [record["name"] for record in json.loads(text)] == list(PRE_AGGREGATORS)
    assert jaxwan("list", "pre_aggregators")[0] == 0


def test_schema_is_json(jaxwan):
    assert "grid" in json.loads(jaxwan("schema")[1])["properties"]


def test_a_member_on_the_command_line():
    assert member_of("compressor", "topk") == "topk"
    assert member_of("compressor", "topk:ratio=1e-2,error_feedback=false") == {
        "kind": "topk", "ratio": 0.01, "error_feedback": False,
    }  # fmt: skip
    assert member_of("strategy", "async:max_staleness=none") == {
        "kind": "async", "max_staleness": None,
    }  # fmt: skip


BAD_CALLS = {
    "kind": (["list", "netwroks"], "did you mean 'networks'"),
    "name": (["show", "challenge", "churm"], "did you mean 'churn'"),
    "scenario": (["run", "--scenario", "simpel"], "scenario: "),
    "knob": (["run", "--compressor", "topk:ratio"], "ratio=VALUE"),
    "ratio": (["run", "--compressor", "topk:ratio=0"], "compressor.ratio: "),
    "nan": (["run", "--compressor", "topk:ratio=nan"], "compressor.ratio: nan"),
    "type": (["run", "--strategy", "async:max_staleness=ten"], "strategy.max_staleness: "),
    "buffer": (["run", "--buffer", "9"], "buffer: 9"),
    "seeds": (["run", "--seeds", "0"], "seeds: "),
    "file": (["sweep", "nowhere.toml"], "no such file: nowhere.toml"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_wrong_call_is_one_line_and_exit_code_2(jaxwan, case):
    words, wanted = BAD_CALLS[case]
    code, text, error = jaxwan(*words)
    assert (code, text) == (2, "")
    assert len(error.strip().splitlines()) == 1
    assert wanted in error


WITHOUT_JAX = (
    ["--help"],
    ["list", "netwroks"],
    ["show", "scenario", "simpel"],
    ["run", "--challenge", "unrelable"],
    ["trace", "--scenario", "simpel"],
    ["variance", "--network", "edgy"],
    ["tornado", "--challenge", "nowhere.toml"],
    ["bandwidth", "--scenario", "simpel"],
    ["status", "nowhere"],
)


def test_help_and_misspelt_names_do_not_wait_for_jax():
    code = f"""
import sys
from jaxwan.cli import main
for words in {WITHOUT_JAX}:
    sys.argv = ["jaxwan", *words]
    try:
        main()
    except SystemExit as ended:
        print(words, ended.code, "jax" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [line for line in done.stderr.splitlines() if not line.startswith("error ")]
    codes = [0, *[2] * (len(WITHOUT_JAX) - 1)]
    assert told == [f"{words} {code} False"
                    for words, code in zip(WITHOUT_JAX, codes, strict=True)]  # fmt: skip


FLEET = "region,speed,up_bps,down_bps,delay_s,loss,jitter_s,online,name\n"
BAD_FILES = {
    "empty grid": ("sweep.toml", "[grid]\n", "grid: is empty"),
    "empty list": ("sweep.toml", "[grid]\nscenario = []\n", "grid.scenario: "),
    "negative": ("sweep.toml", '[grid]\nscenario = "simple"\nlink.delay_s = -1\n', "link.delay_s"),
    "column": ("fleet.csv", "region,speed\n", "missing column 'up_bps'"),
    "twins": ("fleet.csv", FLEET + "eu,1,1e6,1e6,0,0,0,true,a\n" * 2, "duplicate worker 'a'"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_wrong_file_is_one_line_and_exit_code_2(jaxwan, tmp_path, case):
    name, content, wanted = BAD_FILES[case]
    file = tmp_path / name
    file.write_text(content)
    words = ["sweep", file] if name == "sweep.toml" else ["run", "--challenge", file]
    code, _, error = jaxwan(*words)
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert wanted in error


BAD_OPTIONS = {
    "value": (["run", "--seeds", "abc"], ("--seeds", "'abc'")),
    "fraction": (["trace", "--from", "soon"], ("--from", "'soon'")),
    "option": (["run", "--bogus"], ("--bogus",)),
    "no value": (["run", "--seeds"], ("--seeds",)),
    "command": (["swep"], ("'swep'", "sweep")),
    "argument": (["show", "network"], ("'name'",)),
    "too many": (["status", "here", "there"], ("there",)),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_wrong_option_is_one_line(jaxwan, case):
    words, named = BAD_OPTIONS[case]
    code, text, error = jaxwan(*words)
    assert (code, text) == (2, "")
    assert len(error.splitlines()) == 1
    assert error.startswith("error ")
    assert all(name in error.lower() for name in named), error
