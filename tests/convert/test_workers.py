"""Work shared among processes of this machine, or of a scheduler, whatever happens to them."""

import os
import socket
import time

import pytest
import worker_tasks

from convert.workers import open_workers
from runtime.errors import UserError


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with open_workers(None, 2, tmp_path_factory.mktemp("cluster") / "workers") as opened:
        opened.wait_for_one()
        yield opened


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_item_is_done_once(workers):
    began = []
    done = list(workers.each(worker_tasks.double, range(20), began=began.append))
    assert sorted((d.place, d.result) for d in done) == [(i, 2 * i) for i in range(20)]
    assert began == list(range(20)) and not any(d.lost for d in done)
    assert list(workers.each(worker_tasks.double, [])) == []


def test_both_processes_work_one_item_at_a_time(workers):
    until(lambda: workers.count() == 2)
    done = list(workers.each(worker_tasks.slow_pid, [0.2] * 6))
    pids = {d.result for d in done}
    assert len(pids) == 2 and os.getpid() not in pids
    assert len({d.worker for d in done}) == 2
    assert all(d.worker.startswith("tcp://127.0.0.1:") for d in done)


def test_they_listen_on_loopback_only(workers):
    import psutil

    this = psutil.Process()
    listening = [
        connection.laddr.ip
        for process in [this, *this.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}


def test_a_dead_workers_item_goes_to_another(workers, tmp_path):
    items = [tmp_path / "mark", *[tmp_path] * 3]  # the others are there already
    done = list(workers.each(worker_tasks.die_once, items))
    assert sorted((d.place, d.result) for d in done) == [(i, "alive") for i in range(4)]
    until(lambda: workers.count() == 2)  # another one took its place


def test_an_item_that_kills_its_worker_each_time_is_given_up(workers):
    done = {d.place: d for d in workers.each(worker_tasks.die, ["die", "a", "b"])}
    assert sorted(done) == [0, 1, 2]
    assert done[0].lost == "its worker died again and again: too little memory?"
    assert done[0].result is None
    until(lambda: workers.count() == 2)
    assert [d.result for d in workers.each(worker_tasks.die, ["c"])] == ["c"]


def test_an_error_is_raised_here(workers):
    with pytest.raises(UserError, match=r"no \d, please"):
        list(workers.each(worker_tasks.refuse, [1, 2, 3, 4]))


def test_no_more_are_begun_when_time_is_up(workers):
    began = []
    done = list(
        workers.each(worker_tasks.slow_pid, [0.1] * 9, lambda: len(began) < 3, began=began.append)
    )
    assert sorted(d.place for d in done) == began == [0, 1, 2]
    assert list(workers.each(worker_tasks.double, range(3), lambda: False)) == []


def test_what_is_left_is_dropped(workers):
    """The loop is left while another item runs; the next one does not wait for it for ever."""
    for _ in workers.each(worker_tasks.slow_pid, [0.01, 1.0]):
        break
    assert [d.result for d in workers.each(worker_tasks.double, [4])] == [8]


def test_processes_end_and_leave_no_files(tmp_path):
    with open_workers(None, 1, tmp_path / "workers") as opened:
        (done,) = opened.each(worker_tasks.slow_pid, [0])
        assert (tmp_path / "workers").is_dir()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(done.result, 0)


def test_an_error_ends_them_at_once(tmp_path):
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError), open_workers(None, 1, tmp_path / "workers") as opened:
        opened.wait_for_one()
        for _ in opened.each(worker_tasks.slow_pid, [300], began=lambda place: 1 / 0):
            pass
    assert time.monotonic() - started < 60
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["nothing", "tcp://", "tcp://127.0.0.1:PORT", "ftp://x:1"])
def test_no_such_scheduler(address, tmp_path, monkeypatch):
    monkeypatch.setattr("convert.workers._CONNECT_S", 1)
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        address = address.replace("PORT", str(bound.getsockname()[1]))
        with (
            pytest.raises(UserError, match=f"--scheduler {address} does not answer: give the"),
            open_workers(address, 1, tmp_path / "workers"),
        ):
            pass
