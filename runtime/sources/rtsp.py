"""Network cameras, over RTSP."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from urllib.parse import quote, unquote, urlsplit

import cv2
import numpy as np

from runtime.pipeline.frames import Capture
from runtime.sources import SourceLostError
from runtime.sources.options import RtspOptions
from runtime.sources.rtsp_answer import why_not

_DECODER_THREADS = 2
"""Each beyond the first makes a picture a frame older; OpenCV would take one per CPU."""
_MOST_DAMAGED = 30
"""Reads in a row that may fail at once: a packet that does not decode is no lost camera."""


class RtspSource:
    """A network camera, over TCP where it has that. Pictures are read as fast as they come, so that
    none grows old here."""

    live = True

    def __init__(self, options: RtspOptions, board: str):
        self._options = options
        self._url = url_with_credentials(options)
        _prepare_opencv()

    def captures(self, stop: Event) -> Iterator[Capture]:
        """Connecting takes connect_timeout_s at most, a picture read_timeout_s. Raises
        SourceLostError."""
        with self._opened() as stream:
            while not stop.is_set():
                bgr = self._read(stream)
                yield Capture(bgr, time.time())

    @contextmanager
    def _opened(self) -> Iterator[cv2.VideoCapture]:
        options, begun = self._options, time.monotonic()
        settings = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: _milliseconds(options.connect_timeout_s),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: _milliseconds(options.read_timeout_s),
            cv2.CAP_PROP_N_THREADS: _DECODER_THREADS,
        }
        pairs = [value for pair in settings.items() for value in pair]
        stream = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, pairs)
        try:
            if not stream.isOpened():
                left = options.connect_timeout_s - (time.monotonic() - begun)
                raise SourceLostError(f"{options.shown} {why_not(self._url, left)}")
            yield stream
        finally:
            stream.release()

    def _read(self, stream: cv2.VideoCapture) -> np.ndarray:
        shown, most = self._options.shown, self._options.read_timeout_s
        begun = time.monotonic()
        for _ in range(_MOST_DAMAGED):
            more, bgr = stream.read()
            if more:
                return bgr
            if time.monotonic() - begun >= most:
                raise SourceLostError(
                    f"{shown} sent no picture for {most:g} s: check the camera and the network"
                )
        raise SourceLostError(f"{shown} ended the stream: check the camera if it does not return")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would be for ever


def url_with_credentials(options: RtspOptions) -> str:
    """The URL with the user and the password that stand apart from it, percent-encoded."""
    url = options.url.get_secret_value()
    parts = urlsplit(url)
    given, _, host = parts.netloc.rpartition("@")
    user, _, password = map(unquote, given.partition(":"))
    if options.username is not None:
        user = options.username
    if options.password is not None:
        password = options.password.get_secret_value()
    if not user and not password:
        return url
    userinfo = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return parts._replace(netloc=f"{userinfo}@{host}").geturl()


def _prepare_opencv() -> None:
    """Settings of OpenCV that only the environment can make, and for the whole process.

    TCP: OpenCV 4.11 by itself tries UDP first, which loses packets; once anything is set there, it
    takes TCP wherever the camera has it, as other versions do on being told. What the user has set
    there stays.
    No lock: by itself it opens one stream after the other, so that a dead camera keeps all others
    from coming back; FFmpeg has needed no such lock since 4.0.
    Silence: OpenCV and FFmpeg log URLs with the password in them. Our own messages say why.
    """
    cv2.setLogLevel(0)
    wanted = {
        "OPENCV_FFMPEG_CAPTURE_OPTIONS": _over_tcp(os.environ.get("OPENCV_FFMPEG_CAPTURE_OPTIONS")),
        "OPENCV_FFMPEG_IS_THREAD_SAFE": "1",
        "OPENCV_FFMPEG_LOGLEVEL": "-8",
    }
    for name, value in wanted.items():
        if os.environ.get(name) != value:  # changing it needlessly could disturb other threads
            os.environ[name] = value


def _over_tcp(given: str | None) -> str:
    if not given:
        return "rtsp_flags;prefer_tcp"
    chosen = "rtsp_transport;" in given or "rtsp_flags;" in given
    return given if chosen else f"{given}|rtsp_flags;prefer_tcp"
