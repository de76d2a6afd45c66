"""Servers on the loopback interface for tests of downloads: CSV files, a package index, a fake Hugging Face hub."""

import base64
import hashlib
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LIMIT_SECONDS = 300
"""Ends a test that hangs. No test waits this long, nor expects anything to happen sooner."""


@dataclass
class Answer:
    """What the server says once. `announced` overrides the true Content-Length.

    After `stall_after` bytes it waits for `Server.resume`.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    stall_after: int | None = None


@dataclass
class Server:
    """A running server. `routes` maps a path to its answers, in order; the last one is repeated."""

    address: str
    routes: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)

    def count(self, path: str) -> int:
        """How many GET requests for a path have come."""
        return self.requests.count(f"GET {path}")


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = self._answer()
            if answer.stall_after is not None:
                self.wfile.write(answer.body[: answer.stall_after])
                self.wfile.flush()
                server.stalled.set()
                server.resume.wait(LIMIT_SECONDS)
                self.wfile.write(answer.body[answer.stall_after :])
            else:
                self.wfile.write(answer.body)

        def do_HEAD(self) -> None:
            self._answer()

        def _answer(self) -> Answer:
            path = self.path.partition("?")[0]
            server.requests.append(f"{self.command} {path}")
            answers = server.routes.get(path, [Answer(b"not here", 404)])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(answer.status)
            announced = len(answer.body) if answer.announced is None else answer.announced
            for name, value in {"Content-Length": str(announced), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            return answer

        def log_message(self, *arguments: object) -> None:
            """Silence: the tests read `requests`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client may well be killed while it reads
        server = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.resume.set()
            http.shutdown()
            thread.join()


def offer_wheel(server: Server, package: str, version: str, members: dict[str, bytes], **answer: int) -> str:
    """Put a pure wheel into the server's package index at /simple; returns the wheel's SHA-256."""
    stem = f"{package.replace('-', '_')}-{version}"
    information = f"{stem}.dist-info"
    files = dict(members)
    files[f"{information}/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
    files[f"{information}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{name},sha256={_record_hash(content)},{len(content)}\n" for name, content in files.items())
    files[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    wheel = f"/files/{stem}-py3-none-any.whl"
    page = f'<!DOCTYPE html><html><body><a href="{wheel}">{wheel.rpartition("/")[2]}</a></body></html>'
    server.routes[f"/simple/{package}/"] = [Answer(page.encode(), headers={"Content-Type": "text/html"})]
    server.routes[wheel] = [Answer(buffer.getvalue(), **answer)]
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def index_environment(server: Server) -> dict[str, str]:
    """Environment variables that make pip use the server's index and nothing of the user's own configuration."""
    return {
        "PIP_INDEX_URL": f"{server.address}/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
        "NO_PROXY": "127.0.0.1",
    }


def offer_repository(server: Server, name: str, files: dict[str, bytes]) -> None:
    """Put a model repository into a fake hub: what `huggingface_hub.snapshot_download` asks, for public small files."""
    commit = hashlib.sha1(name.encode()).hexdigest()
    blobs = {path: hashlib.sha1(content).hexdigest() for path, content in files.items()}
    siblings = [{"rfilename": path} for path in files]
    about = {"_id": commit[:24], "id": name, "modelId": name, "sha": commit, "private": False, "siblings": siblings}
    tree = [{"type": "file", "path": path, "size": len(files[path]), "oid": blobs[path]} for path in files]
    for address, content in (
        (f"/api/models/{name}/revision/main", about),
        (f"/api/models/{name}", about),
        (f"/api/models/{name}/tree/{commit}", tree),
    ):
        server.routes[address] = [Answer(json.dumps(content).encode(), headers={"Content-Type": "application/json"})]
    for path, content in files.items():
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blobs[path]}"'}
        server.routes[f"/{name}/resolve/{commit}/{path}"] = [Answer(content, headers=headers)]


def refuse_repository(server: Server, name: str, status: int, code: str) -> None:
    """Make the fake hub answer for a repository with an error of that code, such as GatedRepo."""
    refusal = Answer(b'{"error": "no"}', status, {"X-Error-Code": code, "X-Error-Message": code})
    server.routes[f"/api/models/{name}/revision/main"] = server.routes[f"/api/models/{name}"] = [refusal]


def files_below(folder: Path) -> list[str]:
    """Every file below a folder, sorted, without the locks that fetching leaves."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
