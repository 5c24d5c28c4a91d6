"""Wrong files, made from right ones by one change each, all of which must be refused."""

import copy
import json
from typing import NamedTuple

SWEEP = {
    "seeds": 4,
    "steps": 10,
    "grid": {
        "scenario": "simple",
        "challenge": ["wan_bandwidth", "fleet.toml"],
        "network": "edge",
        "strategy": [
            {"kind": "async", "max_staleness": [3, 5]},
            {"kind": "fedbuff", "local_steps": 2},
        ],
        "compressor": {"kind": "topk", "ratio": [0.1, 0.01]},
        "aggregator": {"kind": "trimmed_mean", "trim_ratio": 0.3},
        "workers": 6,
        "buffer": 4,
        "optimizer": {"kind": "sgd", "lr": 0.1},
    },
    "overrides": {
        "link": {"transport": "cubic", "loss": 0.01, "streams": 2},
        "compute": {"sigma": 0.2},
        "failures": {"transient": {"p": 0.02, "duration_steps": 10}},
        "learning": {"target_loss": 0.5, "eval_points": 5},
    },
}
FLEET = {
    "worker": [
        {"name": "a", "network": "lan", "speed": 2.0, "region": "north", "count": 1},
        {"name": "b", "bandwidth_bps": 1e8, "delay_s": 0.05, "loss": 0.01, "jitter_s": 0.001,
         "online": True},
    ],
    "failures": {"slowdown": {"p": 0.05, "factor": 5.0, "duration_steps": 20}},
    "recommended": {"strategy": "async", "buffer": 1},
    "criteria": {"min_steps": 5, "max_rejection": 0.5, "min_throughput_ratio": 0.1},
}  # fmt: skip
CSV = """name,region,speed,up_bps,down_bps,delay_s,loss,jitter_s,online
a,north,1.0,1e8,1e8,0.05,0.01,0.001,true
b,south,0.5,2e7,5e7,0.1,0.02,0.01,yes
"""
OUTAGES = """worker,down_s,up_s
a,5.0,9.0
a,20.0,25.0
b,1.5,2.5
"""
TAPE = """time_s,bandwidth_bps
0,1000000
10,500000
20,2000000
"""


class Mutant(NamedTuple):
    """One wrong file, and a part of the place that the error must name."""

    name: str
    text: str
    place: str


def toml(value):
    """Write plain data as an inline TOML value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value).replace("inf", "inf").replace("nan", "nan")
    return json.dumps(value)


def document(table):
    """Write a table as a TOML document with a question on its first line."""
    return "# Is it refused?\n" + "".join(f"{key} = {toml(item)}\n" for key, item in table.items())


def paths(value, path=()):
    """Yield the path and the value of every leaf of nested data."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from paths(item, (*path, key))
        else:
            yield (*path, key), item


def changed(table, path, change):
    """Return a copy in which one entry is changed: `change(container, key)`."""
    found = copy.deepcopy(table)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return found


def misspelt(inner, key):
    inner[key + "x"] = inner.pop(key)


def put(value):
    def change(inner, key):
        inner[key] = value

    return change


def wrong_values(leaf):
    """Return values that no field which holds such a leaf allows."""
    if isinstance(leaf, bool):
        return {"a word": "perhaps", "a number": 7}
    if isinstance(leaf, int | float):
        return {"a word": "many", "NaN": float("nan"), "below": -3, "a table": {"a": 1}}
    return {"an unknown name": leaf + "zz", "a number": 7, "empty": ""}


FREE = {"name", "region"}  # texts of the user's own


def tables(kind, table):
    """Yield mutants of a TOML table: every key misspelt, every value wrong in several ways."""
    for path, leaf in paths(table):
        named = [key for key in path if isinstance(key, str)]
        field = named[-2] if named[-1] == "kind" else named[-1]
        if isinstance(path[-1], str):
            yield Mutant(f"{kind}: {'.'.join(map(str, path))} misspelt",
                         document(changed(table, path, misspelt)), field)  # fmt: skip
        for how, value in wrong_values(leaf).items():
            if field in FREE and how != "a number":
                continue
            yield Mutant(f"{kind}: {'.'.join(map(str, path))} is {how}",
                         document(changed(table, path, put(value))), field)  # fmt: skip


def broken(kind, text):
    """Yield mutants of a TOML text that is no TOML any more."""
    yield Mutant(f"{kind}: an open bracket", text.replace("]", "", 1), "(at ")
    yield Mutant(f"{kind}: no equals sign", text.replace(" = ", " ", 1), "(at ")
    yield Mutant(f"{kind}: an open quote", text.replace('"', "", 1), "(at ")
    yield Mutant(f"{kind}: cut off", text[: len(text) * 2 // 3], "(at ")
    yield Mutant(f"{kind}: a key twice", text + text.splitlines()[-1] + "\n", "(at ")
    yield Mutant(f"{kind}: empty", "", "")
    yield Mutant(f"{kind}: a byte of no text", text + "\udcff\n", "")


def cells(kind, text, numbers):
    """Yield mutants of a CSV text: header, cells and lines wrong in several ways."""
    lines = [line.split(",") for line in text.strip().splitlines()]
    header = lines[0]
    for column, name in enumerate(header):
        if name not in FREE:
            yield Mutant(f"{kind}: no column {name}", rows(lines, without(column)), name)
        yield Mutant(f"{kind}: {name} misspelt", rows(lines, named(column, name + "x")), name)
        if name in numbers:
            for how in ("many", "nan", "-3", ""):
                where = rows(lines, cell(2, column, how))
                yield Mutant(f"{kind}: {name} is {how!r}", where, "line 3")
    yield Mutant(f"{kind}: a cell too many", text.rstrip("\n") + ",9\n", f"line {len(lines)}")
    yield Mutant(f"{kind}: header only", ",".join(header) + "\n", "")
    yield Mutant(f"{kind}: empty", "", "")


def rows(lines, change):
    return "\n".join(",".join(line) for line in change([list(line) for line in lines])) + "\n"


def without(column):
    return lambda lines: [line[:column] + line[column + 1 :] for line in lines]


def named(column, name):
    return lambda lines: [[*lines[0][:column], name, *lines[0][column + 1 :]], *lines[1:]]


def cell(line, column, text):
    def change(lines):
        lines[line][column] = text
        return lines

    return change
