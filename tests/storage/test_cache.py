"""The cache: made once by whoever comes first, whole or not at all, and errors in words."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aloe_lightning.errors import UserError
from aloe_lightning.storage.cache import cache_folder, cached, content_hash, identity_of
from aloe_lightning.storage.files import file_lock

root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A fresh cache."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder):
    """Files of a cache besides locks."""
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.endswith(".lock")
    )


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def refuse(path):
    raise AssertionError("made again")


def test_what_is_there_is_not_made_again(folder):
    first = cached("kind/a.txt", lambda path: path.write_text("aloe"))
    assert first == folder / "kind" / "a.txt"
    assert cached("kind/a.txt", refuse) == first
    assert first.read_text() == "aloe"
    assert written(folder) == ["kind/a.txt"]


def test_threads_at_the_same_time_make_it_once(folder):
    calls, found, start = [], [], threading.Barrier(6)

    def make(path):
        calls.append(path)
        time.sleep(0.1)
        path.write_text("x" * 100_000)

    def ask():
        start.wait()
        found.append(cached("a", make).read_text())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert found == ["x" * 100_000] * 6


JOB = """
import sys, time
from pathlib import Path
from aloe_lightning.storage.cache import cached

def make(path):
    with open(sys.argv[1], "a") as log:
        log.write("made\\n")
    time.sleep(0.3)
    path.write_text("content")

ready, go = Path(sys.argv[2]), Path(sys.argv[3])
ready.touch()
while not go.exists():
    time.sleep(0.01)
print(cached("a", make).read_text())
"""


def test_processes_at_the_same_time_make_it_once(folder, tmp_path):
    log, go, ready = tmp_path / "log", tmp_path / "go", [tmp_path / f"ready{number}" for number in range(3)]
    jobs = [
        subprocess.Popen([sys.executable, "-c", JOB, log, mine, go], stdout=subprocess.PIPE, text=True)
        for mine in ready
    ]
    wait_for(lambda: all(file.exists() for file in ready))
    go.touch()
    told = [job.communicate(timeout=60) for job in jobs]
    assert [out for out, _ in told] == ["content\n"] * 3
    assert log.read_text() == "made\n"
    assert written(folder) == ["a"]


def test_nothing_is_left_of_what_failed_and_it_is_made_the_next_time(folder):
    def fail(path):
        path.write_text("half")
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        cached("kind/a", fail)
    assert written(folder) == []
    assert cached("kind/a", lambda path: path.write_text("whole")).read_text() == "whole"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_path(folder, number):
    def fill(path):
        path.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=f"cannot write {folder / 'kind' / 'a'}: {os.strerror(number)}; .*ALOE_CACHE"):
        cached("kind/a", fill)
    assert written(folder) == []


def test_another_error_of_the_system_is_not_called_a_full_disk(folder):
    def fail(path):
        raise FileNotFoundError(errno.ENOENT, "no such file", "picture.png")

    with pytest.raises(FileNotFoundError, match=r"picture\.png"):
        cached("a", fail)


def test_a_cache_that_cannot_be_a_folder_is_told(folder):
    folder.write_text("a file")
    with pytest.raises(UserError, match=rf"cannot write in {folder / 'kind'} \(.+\): set ALOE_CACHE to a folder"):
        cached("kind/a", refuse)


@root
def test_a_folder_that_is_not_ones_own_is_told(folder):
    folder.mkdir()
    folder.chmod(0o555)
    with pytest.raises(UserError, match=rf"cannot write in {folder} \(.+\): set ALOE_CACHE to a folder of yours"):
        cached("a", refuse)


@root
def test_what_is_there_is_read_from_a_folder_that_is_ones_own_no_more_and_nothing_else_is_made(folder):
    made = cached("a", lambda path: path.write_text("content"))
    folder.chmod(0o555)
    assert cached("a", refuse) == made
    with pytest.raises(UserError, match=rf"cannot write in {folder} \(.+\): set ALOE_CACHE to a folder of yours"):
        cached("b", refuse)


def test_the_cache_is_where_the_user_says_or_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALOE_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALOE_CACHE", "here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setattr("pooch.os_cache", lambda name: Path("~/systems") / name)
    for unset in (lambda: monkeypatch.setenv("ALOE_CACHE", ""), lambda: monkeypatch.delenv("ALOE_CACHE")):
        unset()
        assert cache_folder() == tmp_path / "systems" / "aloe_lightning"


def test_fingerprints_are_of_values_and_their_kinds():
    parts = [(1,), ("1",), (1, 2), (12,), (2, 1), ("1\n2",), ([1, 2],)]
    assert len({content_hash(*part) for part in parts}) == len(parts)
    assert content_hash("duplicates", 3, None) == content_hash("duplicates", 3, None)
    assert content_hash("aloe") == "e95d1915c8c51af0", "caches of earlier versions are found"


def make_files(folder):
    folder.mkdir(parents=True)
    files = [folder / "a.png", folder / "b.png"]
    for file in files:
        file.write_bytes(b"four")
        os.utime(file, ns=(10**18, 10**18))
    return files


def test_an_identity_changes_with_what_may_change_the_contents_and_with_nothing_else(tmp_path):
    files = make_files(tmp_path / "one")
    first = identity_of(files, tmp_path / "one")
    os.utime(files[0], ns=(5, 10**18))  # read since
    assert identity_of(iter(files), tmp_path / "one") == first
    others = [identity_of(files[:1], tmp_path / "one"), identity_of(files, tmp_path)]
    others.append(identity_of(make_files(tmp_path / "two"), tmp_path / "two"))
    os.utime(files[0], ns=(5, 10**18 + 1))
    others.append(identity_of(files, tmp_path / "one"))
    files[0].write_bytes(b"other")
    os.utime(files[0], ns=(5, 10**18))
    others.append(identity_of(files, tmp_path / "one"))
    files[0].write_bytes(b"four")
    os.utime(files[0], ns=(5, 10**18))
    assert identity_of(files, tmp_path / "one") == first
    renamed = files[0].rename(files[0].with_name("A.png"))
    others.append(identity_of([renamed, files[1]], tmp_path / "one"))
    assert len({first, *others}) == 7


def test_one_at_a_time_and_who_waits_says_for_what(tmp_path, capsys):
    lock, inside, most = tmp_path / "lock", [], []

    def work():
        with file_lock(lock, "making the set"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    with file_lock(lock, "making the set"):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        told = []
        wait_for(lambda: told.extend(capsys.readouterr().err.splitlines()) or len(told) >= 3)
        assert told == ["waiting: another job is making the set"] * 3
        assert most == []
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_who_need_not_wait_says_nothing_and_a_failure_lets_the_next_in(tmp_path, capsys):
    with pytest.raises(KeyError), file_lock(tmp_path / "lock", "failing"):
        raise KeyError
    with file_lock(tmp_path / "lock", "working"):
        pass
    assert capsys.readouterr().err == ""
