"""The part of the Hugging Face hub's interface that reading a dataset uses, served from a folder on this machine."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY_ID = "someone/texts"


class HubServer(ThreadingHTTPServer):
    """Serves `folder` as the dataset REPOSITORY_ID at `commit`. `faults` maps a path to what is done to its next requests."""

    daemon_threads = True

    def __init__(self, folder: Path, commit: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.commit = folder, commit
        self.faults: dict[str, list[str]] = {}
        self.sent: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        resolve, tree = f"/datasets/{REPOSITORY_ID}/resolve/", f"/api/datasets/{REPOSITORY_ID}/tree/{self.server.commit}"
        if path == f"/api/datasets/{REPOSITORY_ID}/revision/{self.server.commit}" or path == f"/api/datasets/{REPOSITORY_ID}":
            self._json(
                {"id": REPOSITORY_ID, "sha": self.server.commit, "siblings": [], "private": False, "tags": [], "downloads": 0}
            )
        elif path.startswith(tree) and not (self.server.folder / path[len(tree) :].strip("/")).is_dir():
            self._missing("EntryNotFound")
        elif path.startswith(tree):
            self._json(
                self._entries(path[len(tree) :].strip("/"), parse_qs(url.query).get("recursive", ["False"])[0].lower() == "true")
            )
        elif path.startswith(resolve):
            self._file(path[len(resolve) :].split("/", 1)[1])
        else:
            self._missing("RepoNotFound")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        self._json([self._entry(self.server.folder / path) for path in paths if (self.server.folder / path).exists()])

    def _entries(self, name: str, recursive: bool) -> list[dict]:
        folder = self.server.folder / name
        return [self._entry(path) for path in sorted(folder.rglob("*") if recursive else folder.iterdir())]

    def _entry(self, path: Path) -> dict:
        name = path.relative_to(self.server.folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        content = path.read_bytes()
        git_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry = {"type": "file", "path": name, "oid": git_id, "size": len(content)}
        if path.suffix == ".parquet":
            entry["lfs"] = {"oid": _sha256(path), "size": path.stat().st_size, "pointerSize": 130}
        return entry

    def _json(self, value: object) -> None:
        if self._fault("api") == "503":
            self._plain(503, b"")
        else:
            self._plain(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        path = self.server.folder / name
        if not path.is_file():
            self._missing("EntryNotFound")
            return
        content, fault = path.read_bytes(), self._fault(name) if self.command == "GET" else None
        headers = {"X-Repo-Commit": self.server.commit, "ETag": f'"{_sha256(path)}"', "Content-Type": "application/octet-stream"}
        if self.command == "GET":
            self.server.sent.append(name)
        if fault == "503":
            self._plain(503, b"")
        elif fault == "cut":
            self._plain(200, content, headers, sent=len(content) // 2)
        else:
            self._plain(200, content[:-1] + b"?" if fault == "alter" else content, headers)

    def _fault(self, name: str) -> str | None:
        waiting = self.server.faults.get(name)
        return waiting.pop(0) if waiting else None

    def _missing(self, code: str) -> None:
        self._plain(404, b"", {"X-Error-Code": code})

    def _plain(self, status: int, content: bytes, headers: dict | None = None, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        self.close_connection = sent is not None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
