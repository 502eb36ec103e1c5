"""An RTSP server that loops a video: /usr/bin/python3 rtsp_server.py PORT VIDEO FRAMES_FOLDER.

Needs Debian's python3-gi and gir1.2-gst-rtsp-server-1.0. Serves /video (H.264), /udp
(the same, but not over TCP) and /unknown (a payload nobody else decodes).
"""

import argparse
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def run_to_its_end(description: str) -> None:
    pipeline = Gst.parse_launch(description)
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, kinds)
    pipeline.set_state(Gst.State.NULL)
    if message is None or message.type != Gst.MessageType.EOS:
        raise SystemExit("the video cannot be taken apart")


def with_user(server: GstRtspServer.RTSPServer, user: str, password: str, digest: bool) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)


def add(server: GstRtspServer.RTSPServer, path: str, description: str, udp: bool = False) -> None:
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {description} )")
    factory.set_shared(True)
    rights = "media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(f"viewer, {rights}"))
    if udp:
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    server.get_mount_points().add_factory(path, factory)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("video", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true")
    asked = parser.parse_args()
    Gst.init(None)
    frames = asked.frames / "frame-%05d.jpg"
    if not asked.frames.is_dir():
        asked.frames.mkdir()
        run_to_its_end(
            f"filesrc location={asked.video} ! decodebin ! videoconvert ! jpegenc quality=95"
            f" ! multifilesink location={frames}"
        )
    looped = (
        f'multifilesrc location={frames} loop=true caps="image/jpeg,framerate=25/1" ! jpegdec'
        " ! videoconvert"
    )
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(asked.port)
    if asked.user:
        with_user(server, asked.user, asked.password, asked.digest)
    h264 = (
        "video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25"
        " ! rtph264pay name=pay0 config-interval=1"
    )
    add(server, "/video", f"{looped} ! {h264}")
    add(server, "/udp", f"{looped} ! {h264}", udp=True)
    add(server, "/unknown", f"{looped} ! rtpgstpay name=pay0")
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
