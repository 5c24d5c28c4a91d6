"""The store: what a kill, a full disk, a foreign folder and a resume leave behind."""

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from frames import rows_and_curves

import jaxwan.parts
from jaxwan.integrity import repair, verify
from jaxwan.merge import merge
from jaxwan.store import Store, sweep_hash

SWEEP = {"seeds": 4, "grid": {"compressor": ["none", "topk"]}}
CHUNKS = ["chunk-0000", "chunk-0001", "chunk-0002"]


@pytest.fixture
def manifest():
    chunks = [{"name": name, "plan": "p0"} for name in CHUNKS]
    return {"sweep": SWEEP, "chunks": chunks, "chunk_shape": [16, 4], "question": "Which one?"}


@pytest.fixture
def pieces():
    """Three chunks whose rows interleave by configuration and seed."""
    frame, curves = rows_and_curves(seeds=6, challenges=("wan_bandwidth",))
    parts = [frame.iloc[start::3].iloc[::-1] for start in range(3)]
    return {
        name: (rows, curves[curves["run_id"].isin(rows["run_id"])])
        for name, rows in zip(CHUNKS, parts, strict=True)
    }


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing cleans up."""


def write(store, pieces, names):
    for name in names:
        store.write(name, *pieces[name])
    return store


def files(folder):
    return {str(item.relative_to(folder)) for item in folder.rglob("*") if item.is_file()}


def kill_at_rename(monkeypatch, number):
    calls = []

    def rename(source, target):
        calls.append(target)
        if len(calls) == number:
            raise Killed
        os.rename(source, target)

    monkeypatch.setattr(jaxwan.parts.os, "replace", rename)


def test_rows_and_curves_come_back_sorted_and_unchanged(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path / "out", manifest), pieces, reversed(CHUNKS))
    frame, curves = store.load()
    expected, expected_curves = rows_and_curves(seeds=6, challenges=("wan_bandwidth",))
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)
    pd.testing.assert_frame_equal(curves, expected_curves, check_exact=True)


@pytest.mark.parametrize("rename", range(1, 7))
def test_a_kill_at_any_rename_loses_only_that_chunk(
    tmp_path, monkeypatch, manifest, pieces, rename
):
    whole = write(Store.open(tmp_path / "whole", manifest), pieces, CHUNKS).load()
    store = Store.open(tmp_path / "out", manifest)
    with monkeypatch.context() as patch:
        kill_at_rename(patch, rename)
        with pytest.raises(Killed):
            write(store, pieces, CHUNKS[:2])

    finished = set(CHUNKS[: (rename - 1) // 3])
    assert Store(tmp_path / "out").done() == finished
    assert any(name.endswith(".tmp") for name in files(tmp_path / "out"))
    half_done = CHUNKS[(rename - 1) // 3]
    there = {name.removeprefix(f"parts/{half_done}") for name in files(tmp_path / "out")}
    renamed = {".curves.parquet", ".parquet"} & there
    assert len(renamed) == (rename - 1) % 3
    resumed = Store.open(tmp_path / "out", manifest)
    assert resumed.resume(set(CHUNKS)) == finished
    assert not any(name.endswith(".tmp") for name in files(tmp_path / "out"))
    write(resumed, pieces, [name for name in CHUNKS if name not in resumed.done()]).finish()
    for got, expected in zip(Store(tmp_path / "out").load(), whole, strict=True):
        pd.testing.assert_frame_equal(got, expected, check_exact=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_temporary_that_another_process_sweeps_up_is_written_again(tmp_path, monkeypatch):
    rename, calls = os.replace, []

    def swept(source, target):
        calls.append(source)
        if len(calls) == 1:
            os.unlink(source)
        rename(source, target)

    monkeypatch.setattr(jaxwan.parts.os, "replace", swept)
    jaxwan.parts.replace(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert len(calls) == 2


@pytest.mark.parametrize("change", [
    {"chunks": None}, {"chunks": [{}]}, {"chunks": [{"name": "../x"}]}, {"versions": [1]},
    {"chunks": [{"name": "a", "runs": "x"}]}, {"warnings": None}, {"sweep": [1]}, {"question": 5},
    {"runs": "x"}, {"sweep": {"configurations": [1]}}, {"sweep": {"seeds": ["x"]}},
])  # fmt: skip
def test_a_manifest_of_other_kinds_is_refused_with_its_place(tmp_path, manifest, change):
    Store.open(tmp_path, manifest)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=r"manifest.json is not a jaxwan manifest \(.*folder"):
        Store(tmp_path)


def test_parts_have_the_same_bytes_when_written_again(tmp_path, manifest, pieces):
    for folder in ("a", "b"):
        write(Store.open(tmp_path / folder, manifest), pieces, CHUNKS)
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_kill_before_the_manifest_leaves_a_folder_that_can_be_used(
    tmp_path, monkeypatch, manifest
):
    with monkeypatch.context() as patch:
        kill_at_rename(patch, 1)
        with pytest.raises(Killed):
            Store.open(tmp_path / "out", manifest)
    (left,) = files(tmp_path / "out")
    assert left.startswith("manifest.json.")
    assert left.endswith(".tmp")
    assert Store.open(tmp_path / "out", manifest).done() == set()


def test_resume_keeps_the_stored_manifest(tmp_path, manifest):
    Store.open(tmp_path, manifest)
    changed = {**manifest, "chunk_shape": [99, 9]}
    assert Store.open(tmp_path, changed).manifest["chunk_shape"] == [16, 4]


def test_another_sweep_is_refused_before_anything_is_written(tmp_path, manifest, pieces):
    write(Store.open(tmp_path / "out", manifest), pieces, CHUNKS[:1])
    (tmp_path / "out" / "parts" / "chunk-0001.parquet.host-1.tmp").write_text("half")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    with pytest.raises(ValueError, match=r"out holds another sweep .*--out"):
        Store.open(tmp_path / "out", {**manifest, "sweep": {"seeds": 5}})
    assert before == {n: (tmp_path / "out" / n).read_bytes() for n in files(tmp_path / "out")}


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path, manifest):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"holds no jaxwan store \(thesis.tex.*--out"):
        Store.open(tmp_path, manifest)
    assert files(tmp_path) == {"thesis.tex"}
    with pytest.raises(ValueError, match="is a file"):
        Store.open(tmp_path / "thesis.tex", manifest)


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_a_folder_without_a_readable_manifest_cannot_be_read(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        Store(tmp_path)


def test_a_full_disk_is_one_clear_line_and_the_store_stays_readable(
    tmp_path, monkeypatch, manifest, pieces
):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS[:1])

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(jaxwan.parts.os, "fsync", full)
        with pytest.raises(OSError, match=r"chunk-0001 to .*No space left.*again") as caught:
            store.write(CHUNKS[1], *pieces[CHUNKS[1]])
    assert "\n" not in str(caught.value)
    assert not any(name.endswith(".tmp") for name in files(tmp_path))
    assert len(Store(tmp_path).load()[0]) == len(pieces[CHUNKS[0]][0])
    write(store, pieces, CHUNKS[1:]).finish()
    assert Store(tmp_path).finished


def test_a_manifest_that_does_not_fit_is_one_clear_line_and_the_old_one_stays(
    tmp_path, monkeypatch, manifest, pieces
):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(jaxwan.parts.os, "fsync", full)
        with pytest.raises(OSError, match=r"the manifest to .*No space left.*make room.*again"):
            store.finish()
        with pytest.raises(OSError, match=r"the manifest to .*No space left"):
            Store.open(tmp_path / "new", manifest)
    assert len(Store(tmp_path).load()[0]) == 12
    assert not Store(tmp_path).finished
    Store.open(tmp_path / "new", manifest)  # usable once there is room


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_a_file_system_that_refuses_large_files_is_one_clear_line(tmp_path, manifest, pieces):
    import resource
    import signal

    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS[:1])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"chunk chunk-0001 to .*make room") as caught:
            store.write(CHUNKS[1], *pieces[CHUNKS[1]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(caught.value)
    assert len(Store(tmp_path).load()[0]) == 4
    write(store, pieces, CHUNKS[1:]).finish()


def test_what_the_writing_thread_meets_is_raised(tmp_path, monkeypatch, manifest, pieces):
    store = Store.open(tmp_path, manifest)
    with store.writer() as put:
        put(CHUNKS[0], *pieces[CHUNKS[0]])
    assert store.done() == {CHUNKS[0]}

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jaxwan.parts.os, "fsync", full)
    with pytest.raises(OSError, match="chunk-0001"), store.writer() as put:
        put(CHUNKS[1], *pieces[CHUNKS[1]])


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(bytes(content))


def cut(file):
    file.write_bytes(file.read_bytes()[:100])


def garble(file):
    file.write_text("{}")


DAMAGE = {
    "a bit of the data": (".parquet", lambda file: flip(file, 40), "checksum differs"),
    "a bit of the footer": (".parquet", lambda file: flip(file, -40), "checksum differs"),
    "a bit of the curves": (".curves.parquet", lambda file: flip(file, 40), "checksum differs"),
    "a cut": (".parquet", cut, "100 bytes, not"),
    "an empty file": (".parquet", lambda file: file.write_bytes(b""), "0 bytes, not"),
    "no curves": (".curves.parquet", lambda file: file.unlink(), "the file is gone"),
    "a stamp of nothing": (".json", garble, "not a stamp"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_part_is_named_and_only_its_chunk_is_run_again(tmp_path, manifest, pieces, what):
    ending, damage, why = DAMAGE[what]
    whole = write(Store.open(tmp_path, manifest), pieces, CHUNKS)
    whole.finish()
    expected = whole.load()
    assert verify(whole) == []
    part = tmp_path / "parts" / f"chunk-0001{ending}"
    damage(part)
    with pytest.raises(ValueError, match=rf"chunk-0001\{ending} is .*{why}.*again"):
        Store(tmp_path).load()
    (found,) = verify(Store(tmp_path))
    assert (found.chunk, found.place) == ("chunk-0001", str(part))
    assert found.kind == "damaged"
    assert why in found.problem
    store = Store.open(tmp_path, manifest)
    with pytest.warns(UserWarning, match=rf"chunk-0001\{ending} is .*run again"):
        assert store.resume(set(CHUNKS)) == {CHUNKS[0], CHUNKS[2]}
    assert not store.finished
    write(store, pieces, [CHUNKS[1]]).finish()
    for got, kept in zip(store.load(), expected, strict=True):
        pd.testing.assert_frame_equal(got, kept, check_exact=True)
    assert verify(store) == []


@pytest.mark.parametrize("with_stamp", [True, False])
def test_a_part_of_another_sweep_is_named(tmp_path, manifest, pieces, with_stamp):
    store = write(Store.open(tmp_path / "own", manifest), pieces, CHUNKS)
    other = Store.open(tmp_path / "other", {**manifest, "sweep": {"seeds": 5}})
    write(other, pieces, CHUNKS)
    for ending in (".parquet", ".curves.parquet", ".json")[: 3 if with_stamp else 1]:
        file = f"chunk-0002{ending}"
        (store.parts / file).write_bytes((other.parts / file).read_bytes())
    (found,) = verify(store)
    assert (found.kind, found.chunk) == ("foreign", "chunk-0002")
    assert other.sweep in found.problem
    assert repair(store, [found]) == ["chunk-0002"]
    assert store.missing() == ["chunk-0002"]
    assert (tmp_path / "own" / "set_aside" / "chunk-0002.parquet").exists()


def test_a_part_under_another_chunks_name_is_named(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS)
    for ending in (".parquet", ".curves.parquet", ".json"):
        source = store.parts / f"chunk-0000{ending}"
        (store.parts / f"chunk-0001{ending}").write_bytes(source.read_bytes())
    (found,) = verify(store)
    assert (found.kind, found.chunk) == ("foreign", "chunk-0001")
    assert "it belongs to chunk chunk-0000" in found.problem


@pytest.mark.parametrize("text", ["{}", "{", None])
def test_a_damaged_manifest_is_written_anew_by_the_same_sweep(tmp_path, manifest, pieces, text):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS)
    file, whole = tmp_path / "manifest.json", (tmp_path / "manifest.json").read_bytes()
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json .*same sweep into that folder again"):
        Store(tmp_path)
    with pytest.raises(ValueError, match=str(tmp_path)):
        Store.open(tmp_path, {**manifest, "sweep": {"seeds": 5}})
    with pytest.warns(UserWarning, match="is (damaged|missing).*written anew"):
        store = Store.open(tmp_path, manifest)
    assert file.read_bytes() == whole
    assert store.resume(set(CHUNKS)) == set(CHUNKS)


def test_a_manifest_is_held_against_its_own_hash(tmp_path, manifest):
    Store.open(tmp_path, manifest)
    file = tmp_path / "manifest.json"
    told = json.loads(file.read_text())
    bare = {name: value for name, value in told.items() if name != "sweep_hash"}
    other = told | {"sweep": {"seeds": 5}}
    for wrong, problem in ((other, "sweep_hash is"), (bare, "no sweep_hash")):
        file.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=problem):
            Store(tmp_path)


def test_a_repair_empties_no_store_whose_manifest_is_wrong(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path / "own", manifest), pieces, CHUNKS)
    other = Store.open(tmp_path / "other", {**manifest, "sweep": {"seeds": 5}})
    (store.path / "manifest.json").write_bytes((other.path / "manifest.json").read_bytes())
    wrong, before = Store(store.path), files(store.path)
    with pytest.raises(ValueError, match=r"manifest\.json is of sweep .*remove it.*anew"):
        repair(wrong, verify(wrong))
    assert files(store.path) == before
    (store.path / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="written anew"):
        assert verify(Store.open(store.path, manifest)) == []


def test_a_part_of_no_planned_chunk_is_named_and_set_aside(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path / "own", manifest), pieces, CHUNKS)
    other = Store.open(tmp_path / "other", {**manifest, "sweep": {"seeds": 5}})
    other.write("chunk-0007", *pieces[CHUNKS[0]])
    for ending in (".parquet", ".curves.parquet", ".json"):
        file = f"chunk-0007{ending}"
        (store.parts / file).write_bytes((other.parts / file).read_bytes())
    with pytest.raises(ValueError, match=r"chunk-0007\.json is foreign .*verify --repair"):
        store.load()
    (found,) = verify(store)
    assert (found.kind, found.chunk) == ("foreign", "chunk-0007")
    with pytest.warns(UserWarning, match=r"chunk-0007\.json is no chunk of this sweep; moved to"):
        assert store.resume(set(CHUNKS[:1])) == set(CHUNKS[:1])
    assert verify(store) == []
    assert len(store.load()[0]) == 12
    assert (store.path / "set_aside" / "chunk-0007.curves.parquet").exists()


def test_a_chunk_that_the_manifest_does_not_name_is_found(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS)
    store.write("chunk-0007", *pieces[CHUNKS[0]])
    (found,) = verify(store)
    assert (found.kind, found.chunk) == ("wrong", "chunk-0007")
    assert found.problem == "the manifest has no such chunk"


def test_stray_files_are_named_and_set_aside(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS)
    for name in ("alien.parquet", "chunk-0001.txt", "chunk-0001.json.host-1.tmp"):
        (store.parts / name).write_text("?")
    found = verify(store)
    names = ["alien.parquet", "chunk-0001.txt"]
    assert [(each.kind, each.chunk) for each in found] == [("stray", name) for name in names]
    assert repair(store, found) == names
    assert verify(store) == []
    assert {each.name for each in (tmp_path / "set_aside").iterdir()} == set(names)


def planned(manifest, pieces):
    """Return the manifest with all that a sweep's has: runs, configurations and seeds."""
    every = pd.concat([rows for rows, _ in pieces.values()])
    chunks = [{"name": name, "runs": len(pieces[name][0])} for name in CHUNKS]
    sweep = {"configurations": sorted(set(every["config_id"])), "seeds": sorted(set(every["seed"]))}
    return manifest | {"chunks": chunks, "sweep": sweep}


def test_runs_that_are_not_the_planned_ones_are_found(tmp_path, manifest, pieces):
    store = Store.open(tmp_path, planned(manifest, pieces))
    first, second, third = (pieces[name] for name in CHUNKS)
    write(store, pieces, CHUNKS)
    assert verify(store) == []
    for rows, problem in (
        (second[0].iloc[:-1], "3 runs, not 4"),
        (first[0], "runs that another part holds"),
        (second[0].assign(seed=77), "seeds that the sweep does not have"),
        (second[0].drop(columns="time_s"), "no column 'time_s'"),
    ):
        store.write(CHUNKS[1], rows)
        (found,) = verify(store)
        assert (found.kind, found.chunk) == ("wrong", CHUNKS[1])
        assert problem in found.problem
    store.write(CHUNKS[1], second[0], third[1])
    (found,) = verify(store)
    assert "curves of runs" in found.problem


def test_what_is_not_there_is_missing_or_was_begun(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS)
    (store.parts / "chunk-0000.json").unlink()
    store.set_aside("chunk-0002")
    begun, missing = verify(store)
    assert (begun.kind, begun.chunk) == ("unfinished", "chunk-0000")
    assert (missing.kind, missing.chunk) == ("missing", "chunk-0002")
    assert missing.problem == "1 of 3 chunks are not stored"
    assert repair(store, [begun, missing]) == []


def test_shards_merge_into_what_one_folder_would_hold(tmp_path, manifest, pieces):
    whole = write(Store.open(tmp_path / "whole", manifest), pieces, CHUNKS)
    whole.finish()
    for name, chunks in {"a": CHUNKS[:2], "b": CHUNKS[1:]}.items():
        write(Store.open(tmp_path / name, manifest), pieces, chunks)
    half = merge(tmp_path / "all", [tmp_path / "a"])
    assert (half.taken, half.missing, half.store.finished) == (2, ["chunk-0002"], False)
    done = merge(tmp_path / "all", [tmp_path / "b", tmp_path / "a"])
    assert (done.taken, done.missing, done.bad, done.differing) == (1, [], [], [])
    assert sorted(done.doubles) == ["chunk-0000", "chunk-0001", "chunk-0001"]
    assert done.store.finished
    assert files(tmp_path / "all") == files(tmp_path / "whole")
    for name in files(tmp_path / "all"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_merge_leaves_damaged_parts_out_and_names_them(tmp_path, manifest, pieces):
    for name in ("a", "b"):
        write(Store.open(tmp_path / name, manifest), pieces, CHUNKS)
    cut(tmp_path / "a" / "parts" / "chunk-0001.parquet")
    cut(tmp_path / "a" / "parts" / "chunk-0002.parquet")
    cut(tmp_path / "b" / "parts" / "chunk-0002.parquet")
    done = merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert done.missing == ["chunk-0002"]
    assert len(done.bad) == 3
    assert "chunk-0001.parquet is damaged (100 bytes" in done.bad[0]
    assert verify(done.store)[0].kind == "missing"


def test_only_folders_of_one_sweep_and_version_merge(tmp_path, manifest, pieces):
    write(Store.open(tmp_path / "a", manifest), pieces, CHUNKS[:1])
    for name, changes, told in (
        ("other", {"sweep": {"seeds": 5}}, "another sweep"),
        ("cut", {"chunks": []}, "other chunks"),
        ("old", {"versions": {"jax": "0.0.1"}}, "--any-version"),
    ):
        Store.open(tmp_path / name, manifest | changes)
        with pytest.raises(ValueError, match=rf"{name} .*{told}"):
            merge(tmp_path / "all", [tmp_path / "a", tmp_path / name])
    assert not (tmp_path / "all").exists()
    assert merge(tmp_path / "all", [tmp_path / "a", tmp_path / "old"], any_version=True).taken == 1


def test_bits_that_differ_between_machines_are_told_and_the_first_kept(tmp_path, manifest, pieces):
    write(Store.open(tmp_path / "a", manifest), pieces, CHUNKS)
    rows, curves = pieces[CHUNKS[1]]
    other = Store.open(tmp_path / "b", manifest)
    other.write(CHUNKS[1], rows.assign(time_s=rows["time_s"] + 1e-9), curves)
    done = merge(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert (done.differing, done.doubles) == ([CHUNKS[1]], [])
    kept = done.store.rows(CHUNKS[1]).sort_values("run_id")["time_s"]
    assert list(kept) == list(rows.sort_values("run_id")["time_s"])


def test_configurations_come_one_by_one_whatever_the_chunks(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, planned(manifest, pieces)), pieces, CHUNKS)
    frame = store.load(curves=False)[0]
    columns = ["config_id", "seed", "time_s"]
    found = {own["config_id"].iloc[0]: own for own in store.configurations(["time_s"])}
    assert len(found) == 2
    for config, runs in frame.groupby("config_id"):
        expected = runs[columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[config][columns], expected)


def test_only_the_columns_asked_for_are_read(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS)
    whole, _ = store.load()
    frame, curves = store.load(["time_s", "seed", "no_such"], curves=False)
    pd.testing.assert_frame_equal(frame, whole[["time_s", "seed"]])
    assert len(curves) == 0


def test_finish_refuses_while_chunks_are_missing(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS[:2])
    with pytest.raises(ValueError, match=r"lacks 1 chunks \(chunk-0002\)"):
        store.finish()
    assert not Store(tmp_path).finished


def test_chunks_without_curves_and_an_empty_store_have_their_columns(tmp_path, manifest, pieces):
    store = Store.open(tmp_path, manifest)
    assert [len(part) for part in store.load()] == [0, 0]
    store.write(CHUNKS[0], pieces[CHUNKS[0]][0])
    frame, curves = store.load()
    assert len(frame) == 4
    assert list(curves.columns) == [
        "run_id", "config_id", "step", "time_s", "loss", "accuracy", "train_loss",
    ]  # fmt: skip


def test_types_do_not_depend_on_which_values_a_chunk_saw(tmp_path, manifest, pieces):
    store = Store.open(tmp_path, manifest)
    settings = [None, 3, "median"]
    for name, setting in zip(CHUNKS, settings, strict=True):
        rows = pieces[name][0]
        store.write(name, rows.assign(loss_final=float("nan"), buffer=[setting] * len(rows)))
    frame, _ = store.load()
    assert frame["loss_final"].dtype == "float64"
    assert frame["success"].dtype == "bool"
    assert sorted(frame["buffer"].map(str).unique()) == ["3", "median", "nan"]


@pytest.mark.parametrize("column", ["steps", "success"])
def test_a_missing_count_or_flag_is_refused_by_name(tmp_path, manifest, pieces, column):
    rows = pieces[CHUNKS[0]][0].astype({column: object})
    rows.iloc[0, rows.columns.get_loc(column)] = None
    with pytest.raises(ValueError, match=f"column '{column}' holds a missing value"):
        Store.open(tmp_path, manifest).write(CHUNKS[0], rows)


def test_chunk_names_cannot_leave_the_folder(tmp_path, manifest, pieces):
    with pytest.raises(ValueError, match="chunk name"):
        Store.open(tmp_path, manifest).write("../x", *pieces[CHUNKS[0]])


def test_hash_ignores_key_order_and_nothing_else():
    assert sweep_hash({"a": 1, "b": [2]}) == sweep_hash({"b": [2], "a": 1})
    assert sweep_hash({"a": [1, 2]}) != sweep_hash({"a": [2, 1]})


def test_other_versions_are_announced(tmp_path, manifest):
    Store.open(tmp_path, manifest)
    stored = json.loads((tmp_path / "manifest.json").read_text())
    stored["versions"]["jax"] = "0.0.1"
    (tmp_path / "manifest.json").write_text(json.dumps(stored))
    with pytest.warns(UserWarning, match=r"0\.0\.1.*last bits"):
        Store.open(tmp_path, manifest)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_twenty_kills_at_random_moments_leave_what_an_uninterrupted_run_does(tmp_path, pieces):
    """The killed ones are children of a small process; `kill_sweep.py` does it to the command."""
    frame, curves = rows_and_curves(seeds=40, challenges=("unreliable",), points=3)
    parts = [frame.iloc[start::80] for start in range(80)]
    chunks = {f"c{n:02d}": (rows, curves[curves["run_id"].isin(rows["run_id"])])
              for n, rows in enumerate(parts)}  # fmt: skip
    manifest = {"sweep": SWEEP, "chunks": [{"name": name} for name in chunks]}
    (tmp_path / "frames").write_bytes(pickle.dumps((manifest, chunks)))
    script = Path(__file__).parent / "helpers" / "killed_writer.py"
    words = [tmp_path / "frames", tmp_path / "out", 20, 7]
    told = subprocess.run(
        [sys.executable, script, *map(str, words)], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""  # nothing was damaged
    found = json.loads(told.stdout)
    assert found["end"] == 0
    assert sum(kill["killed"] for kill in found["met"]) == 20
    assert len({kill["done"] for kill in found["met"]}) >= 5  # they met different stages
    whole = write(Store.open(tmp_path / "whole", manifest), chunks, chunks)
    whole.finish()
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    for name in files(tmp_path / "whole"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
