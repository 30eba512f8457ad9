"""Serve folders of this machine by the Hugging Face hub's interface, as far as reading needs it."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

# Suffixes of files that the hub keeps outside git.
LARGE = (".parquet", ".safetensors")


class Repository(NamedTuple):
    """The files of `folder` at one commit, under `datasets/OWNER/NAME` or `models/OWNER/NAME`."""

    name: str
    folder: Path
    commit: str

    @property
    def resolve(self) -> str:
        """Return the URL path of its files, the only one in which the hub leaves `models/` out."""
        return f"/{self.name.removeprefix('models/')}/resolve/{self.commit}/"

    @property
    def api(self) -> str:
        return f"/api/{self.name}"


class HubServer(ThreadingHTTPServer):
    """A server of repositories.

    `faults` maps a path in a repository to the faults of its next requests. `sent` lists the
    requested paths.
    """

    daemon_threads = True

    def __init__(
        self, repositories: list[Repository], handler: type[BaseHTTPRequestHandler] | None = None
    ):
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.repositories = repositories
        self.faults: dict[str, list[str]] = {}
        self.sent: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        repository = self._repository(path)
        if repository is None:
            self._missing("RepoNotFound")
        elif path.startswith(repository.resolve):
            self._file(repository, path[len(repository.resolve) :])
        elif path in (repository.api, f"{repository.api}/revision/{repository.commit}"):
            name = repository.name.split("/", 1)[1]
            self._json(
                {
                    "id": name,
                    "sha": repository.commit,
                    "siblings": [],
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                }
            )
        else:
            folder = path.removeprefix(f"{repository.api}/tree/{repository.commit}").strip("/")
            if not (repository.folder / folder).is_dir():
                self._missing("EntryNotFound")
            else:
                recursive = parse_qs(url.query).get("recursive", ["False"])[0].lower() == "true"
                found = repository.folder / folder
                self._json(
                    [
                        _entry(repository, path)
                        for path in sorted(found.rglob("*") if recursive else found.iterdir())
                    ]
                )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        repository = self._repository(unquote(urlsplit(self.path).path))
        if repository is None:
            self._missing("RepoNotFound")
        else:
            found = [
                repository.folder / path for path in paths if (repository.folder / path).exists()
            ]
            self._json([_entry(repository, path) for path in found])

    def _repository(self, path: str) -> Repository | None:
        for repository in self.server.repositories:
            if f"{path}/".startswith((repository.resolve, f"{repository.api}/")):
                return repository
        return None

    def _json(self, value: object) -> None:
        if self._fault("api") == "503":
            self._plain(503, b"")
        else:
            self._plain(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: Repository, name: str) -> None:
        path = repository.folder / name
        if not path.is_file():
            self._missing("EntryNotFound")
            return
        content, fault = path.read_bytes(), self._fault(name) if self.command == "GET" else None
        headers = {
            "X-Repo-Commit": repository.commit,
            "ETag": f'"{_sha256(path)}"',
            "Content-Type": "application/octet-stream",
        }
        if self.command == "GET":
            self.server.sent.append(name)
        if fault == "503":
            self._plain(503, b"")
        elif fault == "cut":
            self._plain(200, content, headers, sent=len(content) // 2)
        elif fault == "alter":
            self._plain(
                200, re.sub(rb"(?s)(.*)\w", rb"\1?", content, count=1), headers
            )  # a damaged file: its last letter or digit is changed
        elif wanted := re.fullmatch(
            r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")
        ):  # the client resumes a download that was cut
            first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            self._plain(
                206,
                content[first : last + 1],
                {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"},
            )
        else:
            self._plain(200, content, headers)

    def _fault(self, name: str) -> str | None:
        waiting = self.server.faults.get(name)
        return waiting.pop(0) if waiting else None

    def _missing(self, code: str) -> None:
        self._plain(404, b"", {"X-Error-Code": code})

    def _plain(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        sent: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        self.close_connection = sent is not None


def _entry(repository: Repository, path: Path) -> dict[str, Any]:
    name = path.relative_to(repository.folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    content = path.read_bytes()
    git_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": name, "oid": git_id, "size": len(content)}
    if path.suffix in LARGE:
        entry["lfs"] = {"oid": _sha256(path), "size": path.stat().st_size, "pointerSize": 130}
    return entry


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
