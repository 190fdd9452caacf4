"""Damaged files of every kind that is read: a value, or one error that names the file; in bounded time and memory."""

import re
import signal
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from aloe_lightning.data.images.files import read_image
from aloe_lightning.data.images.integrity import read_pickle
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.seeding import seed_of
from inputs.readers import READERS
from processes import exit_code, forked

SECONDS, MEGABYTES = 5, 500
NUMBERS = [b"99999999999", b"2147483647", b"40000", b"-1", b"1e999"]
BRACKETS = [b"[" * 100_000, b"(" * 100_000, b'{"a":' * 50_000]


class Hang(BaseException):
    """Not an Exception, which a reader might take for damage."""


class Fault(NamedTuple):
    """A reader's answer to a damaged file that it must not give."""

    reader: str
    case: int
    answer: str


def damaged(whole, random, case):
    """Halve the first time; then truncate, flip bits, put bytes in, enlarge numbers, nest, overwrite or append."""
    content, place = bytearray(whole), int(random.integers(len(whole)))
    if case == 0:
        return whole[: len(whole) // 2]
    match int(random.integers(8)):
        case 0:
            del content[place:]
        case 1 | 2:
            for position in random.integers(len(whole), size=random.integers(1, 9)):
                content[position] ^= 1 << int(random.integers(8))
        case 3:
            content[place:place] = random.bytes(int(random.integers(1, 5000)))
        case 4:
            numbers = list(re.finditer(rb"\d+", whole[:100_000]))
            for number in numbers[: int(random.integers(len(numbers)))][-1:]:
                content[slice(*number.span())] = random.choice(NUMBERS)
        case 5:
            content[place:place] = BRACKETS[int(random.integers(len(BRACKETS)))]
        case 6:  # a field of a header or of a directory at the end
            place = place % 512 if random.integers(2) else max(0, len(whole) - 1 - place % 512)
            content[place : place + 4] = [b"\xff" * 4, b"\x7f" * 4, b"\x00" * 4][int(random.integers(3))]
        case 7:
            content += random.bytes(3_000) * 1_000
    return bytes(content)


@contextmanager
def limited(seconds):
    """Raise Hang after a time."""

    def ring(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def memory(field):
    """VmRSS or VmHWM, its peak, in MB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


def faults_of(name, cases, folder):
    """Read a file damaged in several ways."""
    reader = READERS[name]
    file = reader.write(folder)
    whole = file.read_bytes()
    assert reader.read(folder, file) is not None
    found, errors = [], 0
    for case in cases:
        file.write_bytes(damaged(whole, np.random.default_rng(seed_of(name, case)), case))
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        before, started = memory("VmRSS"), time.perf_counter()
        try:
            with limited(SECONDS):
                reader.read(folder, file)
        except UserError as error:
            errors += 1
            if str(file.with_suffix("")) not in str(error):
                found.append(Fault(name, case, f"unnamed: {error}"))
        except Hang:
            found.append(Fault(name, case, f"no answer within {SECONDS} s"))
        except Exception as error:
            found.append(Fault(name, case, f"{type(error).__name__}: {error}"[:300]))
        grown = memory("VmHWM") - before
        if grown > MEGABYTES:
            found.append(Fault(name, case, f"{grown:.0f} MB in {time.perf_counter() - started:.1f} s"))
    return found, errors


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_gives_a_value_or_an_error_that_names_it(name, tmp_path):
    found, errors = faults_of(name, range(6), tmp_path)
    assert found == []
    assert errors > 0 or not READERS[name].refuses


def test_a_damaged_memo_number_of_a_pickle_takes_no_memory(tmp_path):
    """Python's unpickler in C makes room for all numbers up to this one: 32 GB."""
    file = tmp_path / "test_batch"
    file.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    assert read_pickle(file) == {}
    assert memory("VmHWM") - before < 50


def test_a_picture_that_claims_to_be_huge_is_not_decoded(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 20000 5000 255\n" + bytes(100))
    with pytest.raises(UserError, match=r"a.ppm \(20000x5000 pixels, more than 89,478,485: reduce its size\)"):
        read_image(tmp_path / "a.ppm")


@pytest.mark.parametrize("name", ["weights.pt", "TorchScript", "state of a training"])
def test_a_bit_that_flips_in_the_weights_of_an_archive_is_noticed(name, tmp_path, caplog):
    """torch does not compare the checksums of its archives: it loaded the wrong weight."""
    reader = READERS[name]
    file = reader.write(tmp_path)
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        weights = archive.read(largest)
    content[content.index(weights) + 3] ^= 0x40
    file.write_bytes(content)
    if reader.refuses:
        with pytest.raises(UserError, match=f"{file.name}: {largest.filename} differs from its checksum"):
            reader.read(tmp_path, file)
    else:
        assert reader.read(tmp_path, file) == "None"
        assert f"{largest.filename} differs from its checksum" in caplog.text


def work(name, first, last, folder):
    """A process of its own: damage must not end it."""
    found, _ = faults_of(name, range(first, last), folder)
    Path("faults").write_text("".join(f"{fault}\n" for fault in found))


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files(name, tmp_path):
    """10,000 over all readers, a hundred in a process."""
    each, found = -(-10_000 // len(READERS)), []
    for first in range(0, each, 100):
        (folder := tmp_path / f"{first}").mkdir()
        process = forked(work, name, first, min(first + 100, each), folder, folder=folder)
        code = exit_code(process, 600)
        if code != 0:
            process.kill()
            found.append(f"exit code {code}: {(folder / 'log').read_text()[-500:]}")
        else:
            found += (folder / "faults").read_text().splitlines()
    assert found == []
