"""Cohorts: every subject is in the data set or excluded with its reason, whatever happens on the way."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from cpgg_hf.dataset import decode_cine, load_cines
from cpgg_hf.errors import InputError, OutputError, RequestError
from cpgg_hf.preparation.cohorts.cohort import prepare_cohort
from cpgg_hf.preparation.cohorts.pseudonyms import pseudonym, split_of
from cpgg_hf.preparation.grid.prepare import prepare_scan
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.shards import make_shards

from .fake_subjects import SHORT_AXIS, beating_disc, damaged, fake_cohort, hang, kill_the_worker

KEY = bytes(range(32))
NUM_SUBJECTS = 28


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "key"
    path.write_text(KEY.hex() + "\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, key_file):
    """A cohort of which four cannot be used, prepared in one process."""
    out = tmp_path_factory.mktemp("cohort") / "out"
    return out, prepare_cohort(cohort(), out, key_file, progress=False)


def cohort(seconds=0.0):
    good = fake_cohort(NUM_SUBJECTS - 4, seconds)
    return [
        *good,
        Subject("5000001", partial(damaged, "/bulk/5000001_20208_2_0.zip"), source="ukb"),
        Subject("5000002", partial(int, "no cine"), source="ukb"),
        Subject("5000004", partial(beating_disc, "/bulk/5000004", 1, orientation=SHORT_AXIS), source="ukb"),
        good[4],
    ]


def digests(folder) -> dict[str, str]:
    """Of all files, but for the seconds in the report, which no two runs share."""
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = json.loads(contents["report.json"])
    del report["seconds"]
    for record in report["subjects"]:
        del record["seconds"]
    contents["report.json"] = json.dumps(report).encode()
    policies = json.loads(contents["data_policy.json"])
    del policies["files"]["report.json"]["sha256"]
    contents["data_policy.json"] = json.dumps(policies).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_each_subject_is_prepared_under_its_pseudonym_in_its_split(made, tmp_path):
    out, report = made
    rows = {split: load_cines(out, split, cache_dir=tmp_path) for split, number in report["splits"].items() if number}
    placed = {row["subject"]: (split, row) for split, of_split in rows.items() for row in of_split}
    assert len(placed) == NUM_SUBJECTS - 4
    for index, subject in enumerate(fake_cohort(NUM_SUBJECTS - 4)):
        split, row = placed[pseudonym(subject.identifier, KEY)]
        assert split == split_of(subject.identifier, KEY)
        assert row["phenotypes"][3] == 50 + index / 10
        assert (row["source"], row["data_policy"], row["view"]) == ("ukb", "restricted", "4ch")
        assert row["frame_time_ms"] == pytest.approx(18)
    expected = prepare_scan(beating_disc("", 0)).cine.pixels
    first = placed[pseudonym("4000000", KEY)][1]
    assert np.abs(decode_cine(first) / 255 - expected).max() <= 0.5 / 255 + 1e-6
    for of_split in rows.values():
        assert of_split["subject"] == sorted(of_split["subject"])


def test_the_report_accounts_for_everyone(made):
    out, report = made
    assert json.loads((out / "report.json").read_text()) == report
    assert (report["num_subjects"], report["num_used"], report["num_excluded"]) == (28, 24, 4)
    assert sum(report["splits"].values()) == 24
    aside = {record["subject"]: record["reason"] for record in report["subjects"] if "reason" in record}
    assert "is cut off" in aside[pseudonym("5000001", KEY)]
    assert "cannot be read or prepared (ValueError" in aside[pseudonym("5000002", KEY)]
    assert "looks like short-axis (SAX)" in aside[pseudonym("5000004", KEY)]
    assert any("more than once" in reason for reason in aside.values())
    assert sum(report["reasons"].values()) == 4
    assert "degrees" in aside[pseudonym("5000004", KEY)]  # that subject's own number, with which no other would count
    assert any("looks like short-axis (SAX), not four-chamber (4CH);" in kind for kind in report["reasons"])
    assert report["views"] == {"4ch": 24}
    used = [record for record in report["subjects"] if "reason" not in record]
    assert all(set(record["seconds"]) == {"read", "view", "prepare", "row", "thumbnail"} for record in used)
    assert all("read as it is." in record["warnings"] for record in used)


def test_the_page_shows_a_thumbnail_a_subject_and_every_reason(made):
    from PIL import Image

    out, report = made
    page = (out / "report.html").read_text()
    for record in report["subjects"]:
        assert f"<figcaption>{record['subject']}" in page
        if "reason" not in record:
            assert f'loading="lazy" src="thumbnails/{record["subject"]}.png"' in page
            with Image.open(out / "thumbnails" / f"{record['subject']}.png") as picture:
                assert (picture.size, picture.mode) == ((192, 96), "L")
        elif not (out / "thumbnails" / f"{record['subject']}.png").is_file():
            assert f'<div class="none">no image was read</div><figcaption>{record["subject"]}' in page
    assert (out / "thumbnails" / f"{pseudonym('5000004', KEY)}.png").is_file()  # refused, but to be looked at
    assert page.count("<figure>") == len(report["subjects"])
    assert '<meta name="viewport" content="width=device-width' in page  # or phones show it as wide as a desk's screen
    assert "more than once" in page
    assert "http" not in page


def test_a_file_that_the_system_refuses_is_a_reason_without_its_name(key_file, tmp_path):
    subjects = [Subject("5000001", partial(open, "/" + 300 * "Jane")), *fake_cohort(1)]
    report = prepare_cohort(subjects, tmp_path / "out", key_file, progress=False)
    assert list(report["reasons"]) == ["a file cannot be read (File name too long); check it and its permissions."]


def test_no_identifier_and_no_path_reaches_the_output(made):
    out, _ = made
    secrets = [subject.identifier for subject in cohort()] + ["/bulk", "20208_2_0", KEY.hex()]
    for path in filter(Path.is_file, out.rglob("*")):
        content = path.read_bytes()
        if path.suffix == ".parquet":  # compressed: as it is read, too
            table = pyarrow.parquet.read_table(path)
            content += str((table.schema.metadata, table.drop(["cine"]).to_pylist())).encode()
        for secret in secrets:
            assert secret not in str(path.relative_to(out))
            assert secret.encode() not in content, f"{secret} in {path.name}"
            assert secret.encode("utf-16-le") not in content


def test_a_killed_run_resumes_to_the_same_bytes(made, key_file, tmp_path):
    """SIGKILL in the middle, in two processes; then the rest in one."""
    script = (
        "import sys\n"
        "if __name__ == '__main__':\n"
        f"    sys.path[:0] = [{str(Path(__file__).parents[3])!r}, {str(Path(__file__).parents[2] / 'support')!r}]\n"
        "    from tests.preparation.cohorts.test_cohort import cohort\n"
        "    from cpgg_hf.preparation.cohorts.cohort import prepare_cohort\n"
        "    prepare_cohort(cohort(0.2), sys.argv[1], sys.argv[2], num_processes=2, progress=False)\n"
    )
    (tmp_path / "run.py").write_text(script)
    out = tmp_path / "out"
    run = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), str(out), str(key_file)])
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob(".cohort/t*-*/records.json")) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(OutputError, match=r"another run .* is active in"):
            prepare_cohort(cohort(), out, key_file, progress=False)
    finally:
        os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob(".cohort/t*-*/records.json")}
    assert finished
    assert not (out / "dataset.json").exists()
    with pytest.raises(RequestError, match=r"num_subjects = 27 \(now 28\)"):
        prepare_cohort([*cohort(), *fake_cohort(NUM_SUBJECTS)[-1:]], out, key_file, progress=False)
    prepare_cohort(cohort(), out, key_file, progress=False)
    assert digests(out) == digests(made[0])
    assert not (out / ".cohort").exists()


def test_a_finished_cohort_is_left_alone(made, key_file):
    out, report = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert prepare_cohort(cohort(), out, key_file, progress=False) == report
    with pytest.raises(InputError, match="finished data set of other subjects or settings"):
        prepare_cohort(cohort(), out, key_file, view="any", progress=False)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_full_disk_at_the_end_is_made_good_without_preparing_again(key_file, tmp_path, monkeypatch):
    def full(*args, **details):
        raise OSError(errno.ENOSPC, "No space left on device")

    prepare_cohort(fake_cohort(3), tmp_path / "undisturbed", key_file, progress=False)
    for moment in ("_rows", "write_report", "write_description"):
        with monkeypatch.context() as patch:
            patch.setattr(f"cpgg_hf.preparation.cohorts.cohort.{moment}", full)
            with pytest.raises(
                OutputError, match=r"the disk of .* is full; free some space and give the same command"
            ):
                prepare_cohort(fake_cohort(3), tmp_path / "out", key_file, progress=False)
        assert not (tmp_path / "out/dataset.json").exists()
        if moment == "write_report":  # by now all chunks are there
            monkeypatch.setattr("cpgg_hf.shards.processes.ProcessPoolExecutor", full)
    prepare_cohort(fake_cohort(3), tmp_path / "out", key_file, progress=False)
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": "any"}, r"view = '4ch' \(now 'any'\)"),
        ({"key_file": "other"}, "key = "),
        ({"subjects": [Subject("4000000", int)]}, "phenotypes = "),
    ],
)
def test_a_begun_cohort_is_not_continued_as_another_one(key_file, tmp_path, monkeypatch, changes, message):
    arguments = {"subjects": fake_cohort(1), "out": tmp_path / "out", "key_file": key_file, "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr("cpgg_hf.preparation.cohorts.cohort._assemble", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare_cohort(**arguments)
    if "key_file" in changes:
        changes = {"key_file": tmp_path / "other"}
    with pytest.raises(RequestError, match=message):
        prepare_cohort(**arguments | changes)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_subject_that_kills_its_worker_is_excluded_and_the_others_are_prepared(key_file, tmp_path, num_processes):
    subjects = [*fake_cohort(3), Subject("5000003", partial(kill_the_worker, "/bulk/5000003"), source="ukb")]
    with pytest.warns(RuntimeWarning, match=r"a worker process was killed.*made again one by one"):
        report = prepare_cohort(subjects, tmp_path / "out", key_file, num_processes=num_processes, progress=False)
    assert report["num_used"] == 3
    (record,) = [record for record in report["subjects"] if "reason" in record]
    assert record["subject"] == pseudonym("5000003", KEY)
    assert "was killed twice" in record["reason"]


def test_a_subject_that_never_ends_is_excluded_after_the_time_limit(key_file, tmp_path):
    subjects = [*fake_cohort(2), Subject("5000003", partial(hang, "/bulk/5000003"), source="ukb")]
    with pytest.warns(RuntimeWarning, match="a time limit was reached"):
        report = prepare_cohort(subjects, tmp_path / "out", key_file, time_limit_s=5, progress=False)
    (record,) = [record for record in report["subjects"] if "reason" in record]
    assert record["subject"] == pseudonym("5000003", KEY)
    assert "took longer than 5 s" in record["reason"]
    assert report["num_used"] == 2


def test_a_script_that_its_workers_cannot_import_is_reported(key_file, tmp_path):
    """It excludes nobody: without the guard, each worker would start the preparation again and fail."""
    (tmp_path / "run.py").write_text(
        f"import sys\nsys.path[:0] = [{str(Path(__file__).parents[3])!r}]\n"
        "from tests.preparation.cohorts.fake_subjects import fake_cohort\n"
        "from cpgg_hf.preparation.cohorts.cohort import prepare_cohort\n"
        f"prepare_cohort(fake_cohort(1), {str(tmp_path / 'out')!r}, {str(key_file)!r}, progress=False)\n"
    )
    run = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, check=False)
    assert "worker processes cannot start; if a script called this" in run.stderr
    assert not (tmp_path / "out" / "report.json").exists()


def test_what_is_no_cohort_is_refused_before_anything_is_made(key_file, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="exists and is not empty"):
        prepare_cohort(fake_cohort(1), tmp_path / "full", key_file)
    with pytest.raises(InputError, match="the cohort has no subjects"):
        prepare_cohort([], tmp_path / "out", key_file)
    with pytest.raises(InputError, match="keep it somewhere else"):
        prepare_cohort(fake_cohort(1), tmp_path / "out", tmp_path / "out/key")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_nobody_usable_still_gives_a_report(key_file, tmp_path):
    report = prepare_cohort(cohort()[-4:-1], tmp_path / "out", key_file, progress=False)
    assert (report["num_used"], report["num_excluded"]) == (0, 3)
    assert (tmp_path / "out/report.html").is_file()


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_subjects(key_file, tmp_path, monkeypatch):
    """Everything but the resampling, which is replaced by one ready cine; the second half may not need more memory."""
    ready = prepare_scan(beating_disc("", 0)).cine
    sizes = []

    def bring_onto_grid(series, turn_upright):
        if len(sizes) % 100 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        else:
            sizes.append(sizes[-1])
        return ready

    def make_here(folder, plan, job, num_processes, after_crash, on_shard):
        make_shards(folder, plan, lambda shard, path: job(shard)(path), on_shard=on_shard)

    monkeypatch.setattr("cpgg_hf.preparation.cohorts.cohort.make_shards_in_processes", make_here)
    monkeypatch.setattr("cpgg_hf.preparation.cohorts.subject.bring_onto_grid", bring_onto_grid)
    report = prepare_cohort(fake_cohort(10_000), tmp_path / "out", key_file, progress=False)
    assert report["num_used"] == 10_000
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    end = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    print(f"MiB after 1,000 to 9,000 subjects: {[round(size) for size in sizes[1000::1000]]}, end: {end:.0f}")
    assert sizes[9900] - sizes[1000] < 20
    assert end - sizes[1000] < 250  # a row group, a chunk and the report
