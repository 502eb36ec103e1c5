"""rkyolo request: pictures to boards that share them, and their answers."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer
from pydantic import ValidationError

from runtime.errors import CheckFailedError, UserError
from runtime.mqtt.agreed import REQUESTS
from runtime.terminal import json_output, say

if TYPE_CHECKING:
    from runtime.mqtt.broker import BrokerOptions
    from runtime.mqtt.reply import Answer, Tally

_FORMS = "mqtt://user@host:1883, mqtts://host or host:port"


def request(
    broker: Annotated[str, typer.Argument(metavar="BROKER", help=f"{_FORMS}.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE...", help="Pictures, and folders of them.")
    ],
    topic: Annotated[str, typer.Option(help="Where the boards take pictures from.")] = REQUESTS,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds until a picture is sent again.")
    ] = 10,
    attempts: Annotated[
        int, typer.Option(min=1, max=1000, help="Times a picture is sent, at most.")
    ] = 6,
    window: Annotated[
        int, typer.Option(min=1, max=1000, help="Pictures under way; about four a board.")
    ] = 16,
    password_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with the password.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the password.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates to trust, for mqtts.")
    ] = None,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write JSON lines.")
    ] = None,
) -> None:
    """Have boards find objects in pictures, over an MQTT broker."""
    from runtime.model import explained_imports
    from runtime.mqtt import request as client
    from runtime.pictures import find_files, is_video

    where = broker_of(broker, _password(password_env, password_file), ca)
    if not topic or len(topic) > 256 or any(c in "+#\0" for c in topic):
        raise UserError(f"--topic {topic} is none to publish to: 1 to 256 characters, no + and #")
    files = find_files(pictures)
    for file in filter(is_video, files):
        raise UserError(f"{file} is a video: give pictures, or watch it with rkyolo detect")
    tally = client.Tally()
    try:
        with explained_imports("rkyolo request needs"), ExitStack() as stack:
            lines = stack.enter_context(json_output(json_to))
            done = stack.enter_context(_progress(len(files)))
            for answer in client.request(where, files, topic, timeout, window, attempts, tally):
                if lines:
                    print(json.dumps(_plain(answer)), file=lines, flush=True)
                if json_to != "-":
                    say(_line(answer))
                done()
    finally:
        if tally.pictures:
            say(_summary(tally), sys.stderr)
    if tally.failed:
        raise CheckFailedError(f"{tally.failed} of {tally.pictures} pictures have no detections")


def _password(name: str | None, path: Path | None) -> Any:
    if name is not None and path is not None:
        raise UserError("give --password-env or --password-file, not both")
    if name is not None:
        return {"env": name}
    return {"file": str(path)} if path is not None else None


def broker_of(text: str, password: Any = None, ca: Path | None = None) -> "BrokerOptions":
    """The broker that a command line names. password: as in a configuration. Raises UserError,
    which shows nothing of the text that could be secret."""
    from runtime.mqtt.broker import BrokerOptions

    try:
        url = urlsplit(text if "://" in text else f"mqtt://{text}")
        host, port = url.hostname, url.port
    except ValueError:
        host = port = None
    if not host or url.scheme not in ("mqtt", "mqtts") or url.path.strip("/") or url.query:
        raise UserError(f"this is no broker's address: give {_FORMS}")
    if ca is not None and url.scheme != "mqtts":
        raise UserError("--ca is for mqtts: begin the address with mqtts://")
    given: dict[str, Any] = {"host": host, "port": port}
    if url.username:
        given["username"] = unquote(url.username)
    if password is not None or url.password:
        given["password"] = password if password is not None else unquote(url.password)
        if not url.username:
            raise UserError("a password needs a user: mqtt://user@host")
    if url.scheme == "mqtts":
        given["tls"] = {"ca": ca}
    try:
        return BrokerOptions.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise UserError(f"the broker cannot be used: {problems}") from error


@contextmanager
def _progress(length: int) -> Iterator[Any]:
    """A function to call once a picture; on a terminal it moves a bar there."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_interactive:
        yield lambda: None
        return
    with Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("pictures", total=length)
        yield lambda: bar.advance(task)


def _plain(answer: "Answer") -> dict[str, Any]:
    """An answer as one line of JSON holds it: the file here, not what it is called at the board."""
    plain = {"file": answer.name}
    if answer.error is not None:
        return plain | {"board": answer.board, "error": answer.error}
    return plain | {key: value for key, value in answer.plain.items() if key != "file"}


def _line(answer: "Answer") -> str:
    if answer.error is not None:
        return f"{answer.name}: {answer.error}" + (f" ({answer.board})" if answer.board else "")
    found = answer.plain
    counts = Counter(each["name"] for each in found["detections"])
    what = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
    return f"{answer.name} {found['width']}x{found['height']}: {what} ({answer.board})"


def _summary(tally: "Tally") -> str:
    boards = ", ".join(f"{board} {count}" for board, count in sorted(tally.boards.items()))
    return (
        f"{tally.pictures} pictures, {tally.answers} answers, {tally.resends} sent again,"
        f" {tally.duplicates} duplicates dropped; boards: {boards or 'none'}"
    )
