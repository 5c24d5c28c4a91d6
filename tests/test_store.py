"""The store: what a kill, a full disk, a foreign folder and a resume leave behind."""

import errno
import json
import os

import pandas as pd
import pytest
from frames import rows_and_curves

import jaxwan.store
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

    monkeypatch.setattr(jaxwan.store.os, "replace", rename)


def test_rows_and_curves_come_back_sorted_and_unchanged(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path / "out", manifest), pieces, reversed(CHUNKS))
    frame, curves = store.load()
    expected, expected_curves = rows_and_curves(seeds=6, challenges=("wan_bandwidth",))
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)
    pd.testing.assert_frame_equal(curves, expected_curves, check_exact=True)


@pytest.mark.parametrize("rename", [1, 2, 3, 4])
def test_a_kill_at_any_rename_loses_only_that_chunk(
    tmp_path, monkeypatch, manifest, pieces, rename
):
    whole = write(Store.open(tmp_path / "whole", manifest), pieces, CHUNKS).load()
    store = Store.open(tmp_path / "out", manifest)
    with monkeypatch.context() as patch:
        kill_at_rename(patch, rename)
        with pytest.raises(Killed):
            write(store, pieces, CHUNKS[:2])

    finished = set(CHUNKS[: (rename - 1) // 2])
    assert Store(tmp_path / "out").done() == finished
    assert any(name.endswith(".tmp") for name in files(tmp_path / "out"))
    half_done = tmp_path / "out" / "parts" / f"{CHUNKS[(rename - 1) // 2]}.curves.parquet"
    assert half_done.exists() == (rename % 2 == 0)
    resumed = Store.open(tmp_path / "out", manifest)
    assert not any(name.endswith(".tmp") for name in files(tmp_path / "out"))
    write(resumed, pieces, [name for name in CHUNKS if name not in resumed.done()]).finish()
    for got, expected in zip(Store(tmp_path / "out").load(), whole, strict=True):
        pd.testing.assert_frame_equal(got, expected, check_exact=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


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
    assert files(tmp_path / "out") == {"manifest.json.tmp"}
    assert Store.open(tmp_path / "out", manifest).done() == set()


def test_resume_keeps_the_stored_manifest(tmp_path, manifest):
    Store.open(tmp_path, manifest)
    changed = {**manifest, "chunk_shape": [99, 9]}
    assert Store.open(tmp_path, changed).manifest["chunk_shape"] == [16, 4]


def test_another_sweep_is_refused_before_anything_is_written(tmp_path, manifest, pieces):
    write(Store.open(tmp_path / "out", manifest), pieces, CHUNKS[:1])
    (tmp_path / "out" / "parts" / "x.tmp").write_text("half")
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
        patch.setattr(jaxwan.store.os, "fsync", full)
        with pytest.raises(OSError, match=r"chunk-0001 to .*No space left.*again") as caught:
            store.write(CHUNKS[1], *pieces[CHUNKS[1]])
    assert "\n" not in str(caught.value)
    assert not any(name.endswith(".tmp") for name in files(tmp_path))
    assert len(Store(tmp_path).load()[0]) == len(pieces[CHUNKS[0]][0])
    write(store, pieces, CHUNKS[1:]).finish()
    assert Store(tmp_path).finished


def test_a_damaged_part_is_named(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS[:1])
    part = tmp_path / "parts" / "chunk-0000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"chunk-0000\.parquet is damaged .*delete it"):
        store.load()


def test_rows_without_their_curves_do_not_count(tmp_path, manifest, pieces):
    store = write(Store.open(tmp_path, manifest), pieces, CHUNKS[:2])
    (tmp_path / "parts" / "chunk-0000.curves.parquet").unlink()
    assert store.done() == {"chunk-0001"}
    assert len(store.load()[0]) == 4


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
