import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
from servers import program, wait_for

from runtime.errors import UserError
from runtime.pictures import read_video
from runtime.sources import SourceLostError

FRAME = 8 * 6 * 3
"""Bytes of the small frames most of these programs write."""


@pytest.fixture
def command(source):
    """A source whose command is that Python code, which writes frames of 8 x 6."""

    def make(code, **options):
        code = "import os, signal, sys, time\n" + textwrap.dedent(code)
        options = {"width": 8, "height": 6, "read_timeout_s": 20} | options
        return source("command", command=[sys.executable, "-c", code], **options)

    return make


def lost(source):
    """What the source says when it is lost, and how many frames came before."""
    count = 0
    with pytest.raises(SourceLostError) as caught:
        for _ in source.captures(Event()):
            count += 1
    return str(caught.value), count


@pytest.mark.parametrize("pixel_format", ["bgr24", "nv12"])
def test_ffmpeg_gives_the_pictures_opencv_reads(source, demo, pixel_format):
    decode = ["-v", "error", "-i", str(demo / "shapes.mp4"), "-f", "rawvideo"]
    command = [program("ffmpeg"), *decode, "-pix_fmt", pixel_format, "-"]
    size = {"width": 640, "height": 360, "pixel_format": pixel_format}
    captures, wanted = [], [picture.bgr for picture in read_video(demo / "shapes.mp4")]
    with pytest.raises(SourceLostError, match=r"ended with exit status 0$"):
        for capture in source("command", command=command, **size).captures(Event()):
            captures.append(capture)
    assert len(captures) == len(wanted) == 150
    for capture, bgr in zip(captures, wanted, strict=True):
        off = np.abs(capture.bgr.astype(int) - bgr)
        assert off.mean() < 3
        assert np.percentile(off, 99) < 20  # chroma at edges is scaled in another way
    assert captures[0].captured_at <= captures[-1].captured_at <= time.time()


def test_colours_of_nv12(source, first):
    bgr = np.zeros((6, 8, 3), np.uint8)
    bgr[:, :4], bgr[:, 4:] = (200, 30, 30), (30, 30, 200)
    i420 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luma, u, v = np.split(i420, [48, 60])
    nv12 = luma.tobytes() + np.stack([u, v], 1).tobytes()
    command = [sys.executable, "-c", f"import os; os.write(1, {nv12!r})"]
    nv12_source = source("command", command=command, width=8, height=6, pixel_format="nv12")
    (capture,) = first(nv12_source, 1)
    assert capture.bgr.shape == (6, 8, 3)
    np.testing.assert_allclose(capture.bgr.astype(int), bgr, atol=4)


def test_frames_stand_still(command, first):
    small = command(f"for k in range(4): os.write(1, bytes([k]) * {FRAME})")
    captures = first(small, 4)
    assert [int(capture.bgr.max()) for capture in captures] == [0, 1, 2, 3]
    assert all((capture.bgr == capture.bgr[0, 0, 0]).all() for capture in captures)


def test_frames_that_come_in_pieces(command, first):
    code = f"for k in range({FRAME} * 2): os.write(1, bytes([k % 251])); time.sleep(0.002)"
    captures = first(command(code), 2)
    together = np.concatenate([capture.bgr.reshape(-1) for capture in captures])
    assert together.tolist() == [k % 251 for k in range(FRAME * 2)]


def test_a_part_of_a_frame_is_not_shown(command):
    message, count = lost(command(f"os.write(1, bytes({FRAME * 2 + FRAME // 2}))"))
    assert count == 2
    assert message == f"{sys.executable} ended with exit status 0"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param("sys.exit('no such device')", "ended with exit status 1: no such device"),
        pytest.param("sys.exit(3)", "ended with exit status 3"),
        pytest.param("os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        pytest.param(
            "os.write(2, b'one\\nframe=1\\rframe=2\\r\\x1b[31mred\\x1b[0m\\x07 \\xff\\n\\n')",
            "ended with exit status 0: red \ufffd",
            id="no-control-characters",
        ),
        pytest.param(
            "os.write(2, b'rtsp://me:pa@ss/w@host/x: refused, and http://u:secret@b/ too')",
            "ended with exit status 0: rtsp://host/x: refused, and http://b/ too",
            id="no-passwords",
        ),
        pytest.param(
            "os.write(2, b'rtsp://me:' + b'secret' * 2000 + b'@host is away')",
            "ended with exit status 0: is away",
            id="no-half-of-a-password",
        ),
        pytest.param(
            "os.write(2, b'x ' * 5000)",
            "ended with exit status 0: " + ("x " * 150).strip(),
            id="a-long-line",
        ),
    ],
)
def test_the_end_is_told(command, code, message):
    found, _ = lost(command(code))
    assert found.strip() == f"{sys.executable} {message}"


def test_a_closed_output_is_told_and_the_program_ended(command, tmp_path):
    code = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); os.close(1)"
    message, _ = lost(command(code + "; time.sleep(60)"))
    assert message == f"{sys.executable} closed its output"
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_program_that_talks_does_not_wait_for_a_reader(command, first):
    code = f"""
        for _ in range(20):
            os.write(2, b'frame of something\\n' * 20000)
            os.write(1, bytes({FRAME}))
        time.sleep(60)
    """
    assert len(first(command(code), 20)) == 20


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param("time.sleep(60)", "wrote nothing for 1.5 s: check its arguments", id="silent"),
        pytest.param(
            "os.write(2, b'waiting'); os.write(1, b'x'); time.sleep(60)",
            "wrote no whole frame for 1.5 s: check its arguments, width and height (waiting)",
            id="a-byte",
        ),
        pytest.param(
            "while True: os.write(1, b'x'); time.sleep(0.1)",
            "wrote no whole frame for 1.5 s: check its arguments, width and height",
            id="drop-by-drop",
        ),
    ],
)
def test_silence_ends_it(command, code, message):
    assert lost(command(code, read_timeout_s=1.5)) == (f"{sys.executable} {message}", 0)


def test_no_such_program(source):
    missing = source("command", command=["no-such-decoder", "-"], width=8, height=6)
    message = "^no-such-decoder is not installed, or may not be run: install it, or give its path$"
    with pytest.raises(UserError, match=message):
        next(missing.captures(Event()))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "Exec format error", id="empty"),
        pytest.param(b"#!/no/such/shell\n", "No such file or directory", id="no-interpreter"),
    ],
)
def test_what_is_no_program(source, tmp_path, content, reason):
    script = tmp_path / "decode"
    script.write_bytes(content)
    script.chmod(0o755)
    message, _ = lost(source("command", command=[str(script)], width=8, height=6))
    assert message == f"{script} ended with exit status 1: it cannot be started: {reason}"


def test_no_shell_reads_the_arguments(source, first):
    code = f"import sys; sys.stdout.buffer.write(sys.argv[1].encode().ljust({FRAME})); "
    command = [sys.executable, "-c", code, "$HOME; `id` | > x"]
    (capture,) = first(source("command", command=command, width=8, height=6), 1)
    assert capture.bgr.tobytes().rstrip() == b"$HOME; `id` | > x"


@pytest.mark.parametrize(("width", "height"), [(7, 6), (8, 5)])
def test_nv12_has_even_sides(source, width, height):
    with pytest.raises(ValueError, match="nv12 has no odd width or height: give even ones"):
        source("command", command=["x"], width=width, height=height, pixel_format="nv12")


def test_all_that_it_started_ends_with_it(command, tmp_path):
    code = f"""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        open({str(tmp_path)!r} + f'/{{os.getpid()}}', 'w').close()
        while True:
            os.write(1, bytes({FRAME})); time.sleep(0.01)
    """
    with closing(command(code).captures(Event())) as captures:
        wait_for(lambda: next(captures) and len(list(tmp_path.iterdir())) == 2, "both processes")
    for pid in tmp_path.iterdir():
        wait_for(lambda pid=pid: ended(int(pid.name)), "the end of both")


def ended(pid):
    """Whether that process is gone, or dead and not yet waited for by whom it belongs to."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_may_end_kindly(command, tmp_path):
    code = f"""
        def end(*_):
            open({str(tmp_path / "kind")!r}, 'w').close()
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        while True:
            os.write(1, bytes({FRAME})); time.sleep(0.01)
    """
    with closing(command(code).captures(Event())) as captures:
        next(captures)
    assert (tmp_path / "kind").exists()


def test_signals_that_python_ignores_end_it(source, first):
    """Python ignores two, and what it starts would go on doing so."""
    shown = "SigIgn:\t0000000000000000"
    command = ["grep", "SigIgn", "/proc/self/status"]
    (capture,) = first(source("command", command=command, width=len(shown) // 3, height=1), 1)
    ignored = int(capture.bgr.tobytes().decode().split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored >> (number - 1) & 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_the_daemon(tmp_path, number):
    """Also where the daemon has no chance to end it, and where it ignores its broken pipe."""
    command = f"""
import os, signal, time
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
open({str(tmp_path / "new")!r}, "w").write(str(os.getpid()))
os.rename({str(tmp_path / "new")!r}, {str(tmp_path / "pid")!r})
time.sleep(120)
"""
    code = f"""
import sys, threading
from runtime.sources import open_source
from runtime.sources.options import CommandOptions
options = CommandOptions(
    name="c", type="command", command=[sys.executable, "-c", {command!r}], width=8, height=6,
    read_timeout_s=100,
)
run = lambda: next(open_source(options, "board").captures(threading.Event()))
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    daemon = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for((tmp_path / "pid").exists, "the command")
        pid = int((tmp_path / "pid").read_text())
        assert not ended(pid)
        daemon.send_signal(number)
        daemon.wait(20)
        wait_for(lambda: ended(pid), "the end of the command", 10)
    finally:
        daemon.kill()
        daemon.wait(10)


def test_stop_ends_a_wait(command):
    stop = Event()
    threading.Timer(0.5, stop.set).start()
    begun = time.monotonic()
    assert list(command("time.sleep(300)", read_timeout_s=200).captures(stop)) == []
    assert time.monotonic() - begun < 60
