"""GPUs without a GPU: the driver's folder and the processor's description are given."""

import threading
import time

import pytest

from aloe_lightning.runtime import devices, processor


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a number of GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_TRIES", 0.005)
    monkeypatch.setattr(devices, "NVIDIA", tmp_path / "gpus")

    def build(count):
        for number in range(count):
            (tmp_path / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)

    return build


@pytest.mark.parametrize(
    ("installed", "visible", "names"),
    [
        (0, None, []),
        (0, "0,1", []),
        (3, None, ["0", "1", "2"]),
        (3, "", []),
        (3, "-1", []),
        (3, "2, 0", ["2", "0"]),
        (3, "1,-1,2", ["1"]),
        (1, "GPU-8a56,MIG-b1/2/0", ["GPU-8a56", "MIG-b1/2/0"]),
    ],
)
def test_the_visible_gpus_are_those_of_cuda(machine, monkeypatch, installed, visible, names):
    machine(installed)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.visible_gpus() == names
    assert devices.gpu_count() == len(names)


def test_a_gpu_is_held_by_one_job_at_a_time_and_all_are_used(machine):
    machine(2)
    held, most, wrong = [0, 0], [0, 0], []

    def job():
        with devices.exclusive_gpu() as index:
            held[index] += 1
            if held[index] > 1:
                wrong.append(index)
            most[index] += 1
            time.sleep(0.05)
            held[index] -= 1

    jobs = [threading.Thread(target=job) for _ in range(6)]
    for thread in jobs:
        thread.start()
    for thread in jobs:
        thread.join()
    assert wrong == []
    assert sum(most) == 6
    assert min(most) >= 2


def test_jobs_that_see_other_gpus_share_the_locks_of_the_machine(machine, monkeypatch):
    machine(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1")
    with devices.exclusive_gpu() as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
        with devices.exclusive_gpu() as second:
            assert (first, second) == (0, 1), "GPU 2 is taken, so that the next job gets GPU 0, its second"


def test_the_trainer_takes_the_gpu_that_the_job_holds(machine):
    machine(2)
    with devices.exclusive_gpu(), devices.exclusive_gpu() as index:
        assert (index, devices.assigned_devices(1)) == (1, [1])
    assert devices.assigned_devices(1) == 1


def test_a_failed_job_gives_its_gpu_back(machine):
    machine(1)
    with pytest.raises(ZeroDivisionError), devices.exclusive_gpu() as index:
        raise ZeroDivisionError
    with devices.exclusive_gpu() as again:
        assert index == again == 0


def test_without_gpus_nothing_is_handed_out(machine):
    machine(0)
    with devices.exclusive_gpu() as index:
        assert index is None


@pytest.mark.parametrize(
    ("lines", "gpus", "precision"),
    [
        (["vendor_id\t: AuthenticAMD", "flags\t\t: fpu avx512f avx512_bf16"], 0, "bf16-mixed"),
        (["vendor_id\t: AuthenticAMD", "flags\t\t: fpu avx2"], 0, "32-true"),
        (["vendor_id\t: GenuineIntel", "flags\t\t: fpu avx512f avx512_bf16 amx_bf16"], 0, "32-true"),
        (["vendor_id\t: GenuineIntel", "flags\t\t: fpu avx512f avx512_bf16"], 1, "bf16-mixed"),
        (["processor\t: 0", "Features\t: fp asimd bf16"], 0, "32-true"),
        ([], 0, "32-true"),
    ],
)
def test_bfloat16_is_taken_where_it_is_known_to_be_faster(machine, monkeypatch, tmp_path, lines, gpus, precision):
    machine(gpus)
    (tmp_path / "cpuinfo").write_text("\n".join(lines))
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.fast_precision() == precision
