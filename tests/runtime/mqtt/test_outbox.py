"""The outbox: order, bounds, counts, and what becomes of it when the world goes wrong."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

import runtime.mqtt.outbox as outbox_module
from runtime.errors import UserError
from runtime.mqtt.outbox import Outbox

TOPIC = "rkyolo/board/door/detections"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "outbox.db"


@pytest.fixture
def opened(path):
    """Opens outboxes, and closes them at the end."""
    boxes = []

    def open_(limit=1000, limit_bytes=10**9, path=path):
        boxes.append(Outbox(path, limit, limit_bytes))
        return boxes[-1]

    yield open_
    for box in boxes:
        box.close()


def ids(outbox, after=0):
    return [event.id for event in outbox.after(after, 10_000)]


def in_child(code, path, **options):
    """A Python with the outbox open as box."""
    opening = "from runtime.mqtt.outbox import Outbox; from pathlib import Path; import sys\n"
    opening += "box = Outbox(Path(sys.argv[1]), 100_000, 10**9)\n"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", opening + code, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def let_time_pass(id):
    """So that less than one event a millisecond has come, which a new file's ids count on."""
    while time.time() * 1000 < id:
        time.sleep(0.001)


def test_events_wait_in_order_with_their_ids(opened):
    box = opened()
    given = [box.add(TOPIC, {"n": n}) for n in range(5)]
    assert given == list(range(given[0], given[0] + 5))
    events = box.after(given[0], 3)
    assert [event.id for event in events] == given[1:4]
    assert events[0].topic == TOPIC
    assert json.loads(events[0].payload) == {"id": given[1], "n": 1}
    assert (box.waiting, box.dropped, box.last) == (5, 0, given[-1])


def test_what_is_done_is_gone_at_once_and_from_the_disk_later(opened, path):
    box = opened()
    given = [box.add(TOPIC, {"n": n}) for n in range(4)]
    box.done([given[0], given[2]])
    assert ids(box) == [given[1], given[3]]
    assert box.after(0, 1)[0].id == given[1], "a row that is done must not take a place"
    assert box.waiting == 2
    box.close()
    assert ids(opened()) == [given[1], given[3]]


@pytest.mark.parametrize("emptied", [True, False])
def test_ids_are_fresh_after_a_restart(opened, emptied):
    box = opened()
    given = [box.add(TOPIC, {}) for _ in range(3)]
    if emptied:
        box.done(given)
    box.close()
    assert opened().add(TOPIC, {}) == given[-1] + 1


def test_a_new_file_begins_above_an_old_one(opened, path):
    box = opened()
    last = [box.add(TOPIC, {}) for _ in range(3)][-1]
    box.close()
    path.unlink()
    let_time_pass(last)
    assert opened().add(TOPIC, {}) > last


def test_ids_are_fresh_after_a_power_cut_took_events(opened, path, monkeypatch):
    box = opened()
    before = box.add(TOPIC, {})
    box.flush()
    copy = path.with_name("survived.db")
    with sqlite3.connect(copy) as target:  # the disk as it was before two more were sent
        box._file.backup(target)
    target.close()
    sent = [box.add(TOPIC, {}) for _ in range(2)]
    monkeypatch.setattr(outbox_module, "_boot_id", lambda: "the next boot")
    after = opened(path=copy)
    assert ids(after) == [before]
    assert after.add(TOPIC, {}) > sent[-1]


def test_the_oldest_are_dropped_and_counted_over_restarts(opened):
    box = opened(limit=3)
    given = [box.add(TOPIC, {}) for _ in range(5)]
    assert ids(box) == given[2:]
    assert (box.waiting, box.dropped) == (3, 2)
    box.close()
    box = opened(limit=2)
    assert box.dropped == 2
    new = box.add(TOPIC, {})
    assert ids(box) == [given[4], new]
    assert box.dropped == 4


def test_what_is_done_is_not_counted_as_dropped(opened):
    box = opened(limit=2)
    first = box.add(TOPIC, {})
    box.add(TOPIC, {})
    box.done([first])
    box.add(TOPIC, {})
    assert (box.waiting, box.dropped) == (2, 0)


def test_bytes_are_bounded_too_but_the_newest_stays(opened):
    box = opened(limit_bytes=1000)
    given = [box.add(TOPIC, {"text": "x" * 300}) for _ in range(5)]
    assert ids(box) == given[2:]
    large = box.add(TOPIC, {"text": "x" * 5000})
    assert ids(box) == [large]
    assert box.dropped == 5


def test_an_event_given_up_counts_as_dropped(opened):
    box = opened()
    first, second = box.add(TOPIC, {}), box.add(TOPIC, {})
    box.drop(first)
    assert ids(box) == [second]
    assert (box.waiting, box.dropped) == (1, 1)


def test_what_is_no_json_leaves_nothing_behind(opened):
    box = opened()
    first = box.add(TOPIC, {})
    with pytest.raises(ValueError, match="JSON"):
        box.add(TOPIC, {"score": float("nan")})
    assert box.add(TOPIC, {}) == first + 1
    assert box.waiting == 2


def test_an_emptied_outbox_gives_its_room_back(opened, path):
    box = opened(limit=10_000)
    given = [box.add(TOPIC, {"text": "x" * 1000}) for _ in range(5000)]
    box.done(given)
    box.flush()
    box.close()
    assert path.stat().st_size < 200_000
    assert not list(path.parent.glob("*-wal"))


def test_the_log_beside_the_file_stays_small_while_events_flow(opened, path):
    box = opened()
    for _ in range(3000):
        box.done([box.add(TOPIC, {"text": "x" * 3000})])
    assert sum(part.stat().st_size for part in path.parent.iterdir()) < 12_000_000


def test_a_full_disk_is_an_error_that_changes_nothing(opened):
    box = opened()
    given = [box.add(TOPIC, {"text": "x" * 3000}) for _ in range(10)]
    pages = box._file.execute("PRAGMA page_count").fetchone()[0]
    box._file.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for _ in range(10):
            given.append(box.add(TOPIC, {"text": "x" * 3000}))
    assert ids(box) == given
    assert (box.waiting, box.last) == (len(given), given[-1])
    box._file.execute("PRAGMA max_page_count = 100000")
    assert box.add(TOPIC, {}) == given[-1] + 1


def test_a_disk_that_really_has_no_more_room(path):
    code = """
import resource, sqlite3
given = [box.add("t", {})]
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    while True:
        given.append(box.add("t", {"text": "x" * 3000}))
except sqlite3.OperationalError as error:
    print("full:", error)
assert [event.id for event in box.after(0, 1000)] == given
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
print(given[-1], flush=True)
box.close()
"""
    out, errors = in_child(code, path).communicate(timeout=60)
    assert out.startswith("full:"), errors
    box = Outbox(path, 1000, 10**9)
    assert ids(box)[-1] == int(out.split()[-1])
    box.close()


def test_every_committed_event_outlives_sigkill(path):
    given = []
    for _ in range(3):
        child = in_child("while True: print(box.add('t', {}), flush=True)", path)
        for line in child.stdout:
            given.append(int(line))
            if len(given) % 200 == 199:
                break
        child.send_signal(signal.SIGKILL)
        given += [int(line) for line in child.communicate(timeout=10)[0].split()]
    box = Outbox(path, 100_000, 10**9)
    kept = ids(box)
    box.close()
    # an id is printed after its commit, so that the last of each run may be missing from the list
    assert set(given) <= set(kept)
    assert kept == list(range(given[0], given[0] + len(kept)))


def test_a_second_process_is_told_and_keeps_out(opened, path):
    box = opened()
    box.add(TOPIC, {})
    child = in_child("", path)
    assert "database is locked" in child.communicate(timeout=60)[1]
    assert child.returncode == 1
    box.add(TOPIC, {})
    assert box.waiting == 2


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"source": "door"}\n', id="another sink's file"),
        pytest.param(b"x", id="shorter than a head"),
        pytest.param(os.urandom(9000), id="anything"),
    ],
)
def test_a_file_of_another_kind_is_refused_and_kept(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no outbox, and stays as it is: give another file"):
        Outbox(path, 10, 10**9)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_another_programs_database_is_refused_and_kept(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE events (id INTEGER)")
    other.close()
    with pytest.raises(UserError, match="is no outbox"):
        Outbox(path, 10, 10**9)


@pytest.mark.parametrize("zeros", [0, 4096, 40_000])
def test_an_empty_file_and_one_of_zeros_are_begun_anew(opened, path, zeros):
    path.parent.mkdir()
    path.write_bytes(bytes(zeros))
    box = opened()
    assert ids(box) == []
    box.add(TOPIC, {})
    assert box.waiting == 1


def spoil(path, start):
    """Overwrite a closed outbox from there on."""
    content = bytearray(path.read_bytes())
    content[start:] = b"\xa5" * (len(content) - start)
    path.write_bytes(content)


@pytest.mark.parametrize("start", [100, 4096, 8192])
def test_a_damaged_file_is_moved_aside_with_a_warning(opened, path, caplog, start):
    box = opened()
    last = [box.add(TOPIC, {"text": "x" * 3000}) for _ in range(50)][-1]
    box.close()
    spoil(path, start)
    let_time_pass(last)
    spoilt = path.read_bytes()
    box = opened()
    assert ids(box) == []
    assert box.add(TOPIC, {}) > last
    (aside,) = path.parent.glob("outbox.db.damaged-*")
    assert aside.read_bytes()[start:] == spoilt[start:]
    assert f"outbox {path} is damaged" in caplog.text
    assert aside.name in caplog.text


def test_a_file_cut_short_does_not_stop_it(opened, path):
    box = opened()
    for _ in range(50):
        box.add(TOPIC, {"text": "x" * 3000})
    box.close()
    os.truncate(path, path.stat().st_size // 2)
    box = opened()
    box.add(TOPIC, {})
    assert box.waiting == 1


def test_damage_that_shows_itself_later_does_not_stop_it_either(opened, path, caplog):
    box = opened()
    given = [box.add(TOPIC, {"text": "x" * 3000}) for _ in range(50)]
    box._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(path, 4096)
    box._file.execute("PRAGMA cache_size = 0")
    box._file.execute("PRAGMA shrink_memory")
    new = box.add(TOPIC, {})
    assert new > given[-1]
    assert ids(box) == [new]
    assert "is damaged" in caplog.text


def test_threads_share_it(opened):
    box = opened(limit=100_000)
    problems, stop = [], threading.Event()

    def look():
        try:
            while not stop.is_set():
                assert box.waiting >= 0
                box.done([event.id for event in box.after(0, 5)])
                box.flush()
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    given = [box.add(TOPIC, {"n": n}) for n in range(1000)]
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not problems
    assert set(ids(box)) <= set(given)
    box.done(given)
    assert box.waiting == 0
