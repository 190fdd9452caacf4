"""Every named set comes from a host to its place in the official layout, and no fault on the way leaves half of it."""

import errno
import os
import re
import shutil
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from aloe_lightning.data.catalogue import cards
from aloe_lightning.data.download import fetch
from aloe_lightning.data.download.fetch import ArchiveError, prepare
from aloe_lightning.errors import UserError
from aloe_lightning.runtime import progress
from data.archives import contents, make_archives, replaced, tree, write_tar
from data.server import Host, fail_writes

FETCHED = [card for card in cards().values() if card.archives]
CIFAR10, GTSRB, ISUN, LSUN_C, SVHN = (cards()[name] for name in ("cifar10", "gtsrb", "isun", "lsun_c", "svhn"))
PICKED = [CIFAR10, SVHN]  # one that is unpacked and one that is not


def names(chosen):
    return {"ids": [card.name for card in chosen]}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    make_archives(folder)
    return folder


@pytest.fixture
def host(archives, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    with Host(archives) as started:
        yield started


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def of(host, archives):
    """The card of the catalogue, pointing to the host."""
    return lambda card: replaced(card, host.url, archives)


def files_of(card):
    return [archive.file for archive in card.archives]


def official(card):
    """What the set is on disk: contents by path below the root."""
    return {
        (Path(archive.into) / path).as_posix(): content
        for archive in card.archives
        for path, content in tree(archive.file).items()
    }


def below(root):
    """Contents by path, folders as None; locks and the folder that holds them aside."""
    files = dict.fromkeys((path.relative_to(root).as_posix() for path in root.rglob("*")), None) | contents(root)
    return {name: content for name, content in files.items() if not re.fullmatch(r"\.downloads(/\w+\.lock)?", name)}


def files_below(root):
    return {name: content for name, content in below(root).items() if content is not None}


def fails(card, root, error, *told):
    """Fails by exactly this error, in words that help, and leaves all as it was; returns the words."""
    before = below(root)
    with pytest.raises(error) as caught:
        prepare(card, root)
    assert caught.type is error
    message = str(caught.value)
    assert message.startswith(card.title)
    assert "\n" not in message
    for words in (*told, f"run `python -m aloe_lightning.data prepare {card.name} --root {root}` again"):
        assert words in message
    assert below(root) == before
    return message


def recovers(card, root):
    prepare(card, root)
    assert files_below(root) == official(card)


@pytest.mark.parametrize("card", FETCHED, **names(FETCHED))
def test_every_set_comes_to_its_place_byte_by_byte(card, of, host, root):
    done = prepare(of(card), root)
    assert card.layout(root) == next(paths for paths in card.layouts if "test_subset" not in paths[0])
    assert files_below(root) == official(card)
    assert host.requests == dict.fromkeys(files_of(card), 1)
    assert [line for line in done if "downloaded" in line] == [
        f"downloaded {host.url}/{file}" for file in files_of(card)
    ]
    assert [line for line in done if "wrote" in line] == [
        f"wrote {root / path}" for archive in card.archives for path in archive.provides
    ]


def test_what_is_there_is_not_fetched_again(of, host, root):
    prepare(of(CIFAR10), root)
    before = below(root)
    assert prepare(of(CIFAR10), root) == [f"CIFAR-10 was there already, in {root}"]
    assert below(root) == before
    assert host.requests == {"cifar-10-python.tar.gz": 1}


def test_another_layout_of_the_set_is_enough(of, host, root):
    for name in ("train.p", "valid.p", "test.p"):
        (root / "gtsrb").mkdir(exist_ok=True)
        (root / "gtsrb" / name).touch()
    assert prepare(of(GTSRB), root) == [f"GTSRB was there already, in {root}"]
    assert host.requests == {}


def test_the_data_root_is_made(of, tmp_path):
    prepare(of(SVHN), tmp_path / "new" / "root")
    assert files_below(tmp_path / "new" / "root") == official(SVHN)


@pytest.mark.parametrize("name", ["tiny_images", "imagenet32"])
def test_what_must_not_be_fetched_says_what_to_do_by_hand(name, tmp_path):
    with pytest.raises(UserError, match=re.escape(cards()[name].manual_instructions)):
        prepare(cards()[name], tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("card", PICKED, **names(PICKED))
@pytest.mark.parametrize(
    ("fault", "error", "told", "requests"),
    [
        ("404", ArchiveError, "404", 1),
        ("500", ArchiveError, "500", 1),
        ("truncated", ArchiveError, "more expected", 2),
        ("reset", ArchiveError, "cannot be downloaded", 2),
        ("hanging", ArchiveError, "timed out", 2),
        ("stalled", ArchiveError, "timed out", 2),
        ("altered", ArchiveError, "is not the official file", 1),
        ("page", ArchiveError, "is not the official file: 26 bytes with MD5", 1),
    ],
)
def test_a_fault_of_the_host_is_told_by_name_and_leaves_nothing(card, fault, error, told, requests, of, host, root):
    (file,) = files_of(card)
    host.faults[file] = fault
    by_hand = f"download {file} from {host.url}/{file} by other means, put it at {root / file} and run"
    fails(of(card), root, error, told, f"{host.url}/{file}", by_hand)
    assert host.requests == {file: requests}
    host.faults.clear()
    recovers(of(card), root)


@pytest.mark.parametrize("fault", ["truncated", "reset", "hanging", "stalled"])
def test_a_connection_that_fails_once_is_tried_again_from_the_start(fault, of, host, root):
    host.faults["cifar-10-python.tar.gz"] = fault
    host.once.add("cifar-10-python.tar.gz")
    recovers(of(CIFAR10), root)
    assert host.requests == {"cifar-10-python.tar.gz": 2}


def test_a_host_that_is_gone_is_told(archives, root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets the port
        card = replaced(CIFAR10, f"http://127.0.0.1:{taken.getsockname()[1]}", archives)
        fails(card, root, ArchiveError, "cannot be downloaded ([Errno 111] Connection refused)")


@pytest.mark.parametrize("fault", ["labelled", "unsized"])
@pytest.mark.parametrize("card", PICKED, **names(PICKED))
def test_peculiar_headers_change_nothing(card, fault, of, host, root):
    host.faults.update(dict.fromkeys(files_of(card), fault))
    recovers(of(card), root)


def test_a_set_of_three_archives_goes_on_where_it_stopped(of, host, root):
    host.faults["GTSRB_Final_Test_Images.zip"] = "404"
    with pytest.raises(ArchiveError, match="404"):
        prepare(of(GTSRB), root)
    assert files_below(root) == official(replace(GTSRB, archives=GTSRB.archives[:1]))
    host.faults.clear()
    recovers(of(GTSRB), root)
    counts = (1, 2, 1)
    assert host.requests == dict(zip(files_of(GTSRB), counts, strict=True))


def test_what_the_user_has_put_there_is_never_overwritten(of, host, root):
    mine = root / "gtsrb" / "GTSRB" / "Training" / "mine.ppm"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    prepare(of(GTSRB), root)
    rest = official(replace(GTSRB, archives=GTSRB.archives[1:]))
    assert files_below(root) == rest | {"gtsrb/GTSRB/Training/mine.ppm": b"mine"}
    assert "GTSRB-Training_fixed.zip" not in host.requests


@pytest.mark.parametrize("kind", ["folder", "link to nowhere"])
def test_what_is_in_the_way_is_told_and_kept(kind, of, host, root):
    if kind == "folder":
        (root / "LSUN" / "mine").mkdir(parents=True)
    else:
        (root / "LSUN").symlink_to(root / "nowhere")
    fails(
        of(LSUN_C),
        root,
        UserError,
        f"is incomplete in {root}, and existing files are never overwritten: move LSUN away",
    )
    assert (root / "LSUN").is_symlink() == (kind != "folder")
    assert host.requests == {}


@pytest.mark.parametrize("card", FETCHED, **names(FETCHED))
def test_copies_placed_by_hand_are_taken_and_kept(card, of, host, archives, root):
    for file in files_of(card):
        shutil.copy(archives / file, root)
    copies = contents(root)
    done = prepare(of(card), root)
    assert files_below(root) == copies | official(card)
    assert host.requests == {}
    used = [f"used {root / file}" for file in files_of(card)]
    if card.name == "random_images_300k":  # a copy of it is at its final place
        used = [f"{card.title} was there already, in {root}"]
    assert [line for line in done if "wrote" not in line] == used


@pytest.mark.parametrize("card", PICKED, **names(PICKED))
def test_a_bad_copy_placed_by_hand_is_refused_by_name_and_kept(card, of, host, archives, root):
    (file,) = files_of(card)
    (root / file).write_bytes(b"not the file")
    fails(of(card), root, ArchiveError, f"{root / file} is not the official file: 12 bytes with MD5")
    assert host.requests == {}
    shutil.copy(archives / file, root)
    prepare(of(card), root)
    assert files_below(root) == official(card) | {file: (archives / file).read_bytes()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("card", "file"),
    [(CIFAR10, "cifar-10-python.tar.gz"), (CIFAR10, "data_batch_3"), (GTSRB, "00007/GT-00007.csv"), (SVHN, ".mat")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_full_disk_is_told_with_what_is_free(card, file, number, of, root, monkeypatch):
    with monkeypatch.context() as patch:
        fail_writes(patch, file, number)
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 7, 1234))
        fails(of(card), root, UserError, *files_of(card), f"1,234 bytes are free in {root}; make room and run")
    recovers(of(card), root)


def test_a_full_disk_is_told_when_a_copy_placed_by_hand_is_copied(of, archives, root, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.copy(archives / "test_32x32.mat", root)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        fails(of(SVHN), root, UserError, f"bytes are free in {root}")
    prepare(of(SVHN), root)
    assert (root / "svhn" / "test_32x32.mat").read_bytes() == (root / "test_32x32.mat").read_bytes()


def test_any_other_fault_of_the_disk_is_told(of, root, monkeypatch):
    with monkeypatch.context() as patch:
        fail_writes(patch, "data_batch_3", errno.EIO)
        fails(of(CIFAR10), root, UserError, f"cannot be written to {root} ([Errno 5] on purpose); correct that and")
    recovers(of(CIFAR10), root)


def test_a_root_that_is_a_file_is_told(of, tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(UserError, match=r"^CIFAR-10 cannot be written to .*root \(.*Not a directory"):
        prepare(of(CIFAR10), tmp_path / "root")
    assert contents(tmp_path) == {"root": b"a file"}


@pytest.mark.parametrize("step", ["_download", "_verify", "_extract"])
def test_an_interruption_leaves_nothing(step, of, root, monkeypatch):
    def then_interrupt(*given):
        really(*given)
        raise KeyboardInterrupt

    really = getattr(fetch, step)
    with monkeypatch.context() as patch:
        patch.setattr(fetch, step, then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(of(CIFAR10), root)
    assert below(root) == {}
    recovers(of(CIFAR10), root)


@pytest.fixture
def other(host, tmp_path):
    """A card whose archive, with its right sum, is another one."""

    def make(card, content):
        host.folder = tmp_path
        (archive,) = card.archives
        (tmp_path / archive.file).write_bytes(content)
        return replaced(card, host.url, tmp_path)

    return make


def test_a_cut_archive_with_the_right_sum_is_broken(other, archives, root):
    card = other(ISUN, (archives / "iSUN.tar.gz").read_bytes()[:500])
    fails(card, root, ArchiveError, "iSUN.tar.gz is truncated or corrupt")


def test_an_archive_that_lacks_the_set_is_broken(other, root, tmp_path):
    write_tar(tmp_path / "made.tar.gz", {"isun/1.jpeg": b"in another folder"})
    card = other(ISUN, (tmp_path / "made.tar.gz").read_bytes())
    fails(card, root, ArchiveError, "/iSUN.tar.gz does not contain iSUN;")


def test_an_unsafe_archive_with_the_right_sum_is_refused(other, root, tmp_path):
    write_tar(tmp_path / "made.tar.gz", {"iSUN/1.jpeg": b"good", "../../../../evil": b"evil"})
    card = other(ISUN, (tmp_path / "made.tar.gz").read_bytes())
    fails(card, root, ArchiveError, "iSUN.tar.gz is refused ('..")
    assert not [folder for folder in (*tmp_path.rglob("*"), *root.parents) if (folder / "evil").exists()]


def wait_until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("card", [CIFAR10, GTSRB], **names([CIFAR10, GTSRB]))
def test_two_jobs_fetch_once(card, of, host, root, capsys, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 10)
    first_file, card = files_of(card)[0], of(card)
    host.faults[first_file] = "stalled"
    results = {}
    first, second = (
        threading.Thread(target=lambda job=job: results.update({job: prepare(card, root)}))
        for job in ("first", "second")
    )
    first.start()
    wait_until(lambda: host.requests[first_file] == 1)
    second.start()
    said = []
    wait_until(lambda: said.append(capsys.readouterr().err) or "".join(said))
    host.gate.set()
    first.join(10)
    second.join(10)
    assert results["first"][0] == f"downloaded {host.url}/{first_file}"
    assert results["second"] == [f"{card.title} was there already, in {root}"]
    assert host.requests == dict.fromkeys(files_of(card), 1)
    assert files_below(root) == official(card)
    said.append(capsys.readouterr().err)
    assert "".join(said) == f"waiting: another job is downloading {card.title} into {root}\n"


def test_sets_do_not_wait_for_each_other(of, host, root, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 10)
    host.faults["cifar-10-python.tar.gz"] = "stalled"
    slow = threading.Thread(target=prepare, args=(of(CIFAR10), root))
    slow.start()
    wait_until(lambda: host.requests["cifar-10-python.tar.gz"] == 1)
    prepare(of(SVHN), root)
    host.gate.set()
    slow.join(10)
    assert files_below(root) == official(SVHN) | official(CIFAR10)


def test_what_a_killed_job_left_is_cleaned_up_and_other_jobs_are_left_alone(of, host, root, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 10)
    host.faults["cifar-10-python.tar.gz"] = "stalled"
    card, downloads = of(CIFAR10), root / ".downloads"
    job = os.fork()
    if job == 0:
        prepare(card, root)
        os._exit(0)
    wait_until(lambda: (downloads / "cifar10" / "cifar-10-python.tar.gz").exists())
    os.kill(job, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]) == -signal.SIGKILL
    assert list(files_below(root)) == [".downloads/cifar10/cifar-10-python.tar.gz"], "this test shows nothing"
    (downloads / "cifar10" / "from cifar-10-python.tar.gz" / "half").mkdir(parents=True)
    (downloads / "svhn").mkdir()
    (downloads / "svhn" / "test_32x32.mat").write_bytes(b"of another job")
    host.faults.clear()
    prepare(card, root)
    assert files_below(root) == official(CIFAR10) | {".downloads/svhn/test_32x32.mat": b"of another job"}
    assert sorted(path.name for path in downloads.iterdir()) == ["cifar10.lock", "svhn"]


class Shown:
    """Notes what a progress bar is told."""

    def __init__(self, label, total, unit):
        self.told, self.label, self.total, self.unit, self.closed = [], label, total, unit, 0

    def update(self, done):
        self.told.append(done)

    def close(self):
        self.closed += 1


@pytest.fixture
def shown(monkeypatch):
    """The bars of downloads, in thousands of bytes."""
    bars = []
    monkeypatch.setattr(fetch, "MB", 1000)
    monkeypatch.setattr(progress, "progress_display", lambda *given: bars.append(Shown(*given)) or bars[-1])
    return bars


def test_a_download_shows_how_far_it_is(of, archives, root, shown):
    prepare(of(SVHN), root)
    size = (archives / "test_32x32.mat").stat().st_size
    (bar,) = shown
    assert (bar.label, bar.total, bar.unit) == ("downloading test_32x32.mat", size // 1000 + 1, "MB")
    assert bar.told == [*range(1, bar.total), bar.total]
    assert bar.closed == 1


def test_the_bar_goes_when_the_download_fails(of, host, root, shown):
    host.faults["test_32x32.mat"] = "stalled"
    with pytest.raises(ArchiveError):
        prepare(of(SVHN), root)
    assert [(bar.closed, bar.told[-1] < bar.total) for bar in shown] == [(1, True), (1, True)]
