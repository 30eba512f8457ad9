"""A local server with the Hugging Face hub's interface, as far as publishing a model needs it."""

import base64
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from tools.dry_run.fake_hub import LARGE, Handler, HubServer, Repository

TOKEN, OWNER = "hf_right", "me"
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(/.*)?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.*)")
_WRITE = re.compile(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/([^/]+)")
_BATCH = re.compile(r"/([^/]+/[^/]+)[.]git/info/lfs/objects/batch")


class ModelHub(HubServer):
    """A hub that keeps model repositories in `folder`, with a folder for each commit.

    `faults` maps `preupload`, `lfs` and `commit` to the fault of the next such request: `cut`
    closes the connection, `alter` stores other bytes. `listed` are extra names in each listing of
    files. `requests` records all requests that write.
    """

    def __init__(self, folder: Path):
        super().__init__([], _ModelHandler)
        self.folder = folder
        self.branches: dict[str, dict[str, str]] = {}
        self.private: dict[str, bool] = {}
        self.commits = 0
        self.large: dict[str, bytes] = {}
        self.listed: list[str] = []
        self.requests: list[str] = []

    def commit(self, name: str, branch: str, change: dict[str, bytes | None]) -> str:
        """Add a commit with `change`: path → content, or None to delete the file."""
        self.commits += 1
        oid = hashlib.sha1(f"{name} {self.commits}".encode()).hexdigest()
        before = self.branches[name].get(branch)
        folder = self.folder / oid
        if before:
            shutil.copytree(self.folder / before, folder)
        folder.mkdir(exist_ok=True, parents=True)
        for path, content in change.items():
            if content is None:
                (folder / path).unlink()
            else:
                (folder / path).write_bytes(content)
        self.branches[name][branch] = oid
        return oid

    def create(self, name: str, private: bool = False) -> None:
        self.branches[name], self.private[name] = {}, private
        self.commit(name, "main", {".gitattributes": b"*.safetensors filter=lfs\n"})

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        folder = self.folder / self.branches[name][branch]
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class _ModelHandler(Handler):
    server: ModelHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if api := _API.fullmatch(path):
            name, what, revision, _ = api.groups()
        elif file := _FILE.fullmatch(path):
            name, revision, _ = file.groups()
            what = "resolve"
        else:
            self._missing("RepoNotFound")
            return
        if name not in self.server.branches or (self.server.private[name] and not self._may()):
            # The hub answers alike for a private repository and for a missing one.
            self._plain(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        branches = self.server.branches[name]
        commit = branches.get(revision or "main", revision)
        if not (self.server.folder / str(commit)).is_dir():
            self._missing("RevisionNotFound")
        elif what in (None, "revision"):
            self._json({
                "id": name, "sha": commit, "private": self.server.private[name], "siblings": [],
                "tags": [], "downloads": 0,
            })  # fmt: skip
        else:
            if revision:
                self.path = self.path.replace(f"/{what}/{revision}", f"/{what}/{commit}", 1)
            self._chosen = Repository(f"models/{name}", self.server.folder / commit, commit)
            super().do_GET()

    def _repository(self, path: str) -> Repository | None:
        return self._chosen

    def _json(self, value: object) -> None:
        if isinstance(value, list) and self.command == "GET":
            extra = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": 1}
                for name in self.server.listed
            ]
            value = [*value, *extra]
        super()._json(value)

    def do_PUT(self) -> None:
        body = self._body()
        if self._fault("lfs") == "cut":
            self._cut()
            return
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large[oid] = body
        self.server.requests.append("lfs")
        self._plain(200, b"")

    def do_POST(self) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif not self._may():
            self._plain(401, b"{}", {"X-Error-Message": "Invalid credentials"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif batch := _BATCH.fullmatch(path):
            self._batch(batch[1], json.loads(body))
        elif write := _WRITE.fullmatch(path):
            name, what, branch = write.groups()
            if name.split("/")[0] != OWNER:
                self._plain(403, b"{}")
            elif (fault := self._fault(what)) == "cut":
                self._cut()
            else:
                self.server.requests.append(what)
                getattr(self, f"_{what}")(name, branch, body, fault)
        else:
            self._missing("RepoNotFound")

    def _may(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def _create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != OWNER:
            self._plain(403, b"{}")
        elif name in self.server.branches:
            self._plain(409, json.dumps({"url": f"{self.server.endpoint}/{name}"}).encode())
        else:
            self.server.requests.append("create")
            self.server.create(
                name, asked.get("visibility") == "private" or bool(asked.get("private"))
            )
            self._json({"url": f"{self.server.endpoint}/{name}"})

    def _branch(self, name: str, branch: str, _: bytes, __: str | None) -> None:
        branches = self.server.branches[name]
        if branch in branches:
            self._plain(409, b"{}")
        else:
            branches[branch] = branches["main"]
            self._json({})

    def _preupload(self, name: str, branch: str, body: bytes, _: str | None) -> None:
        there = self.server.files(name, branch)
        answers = []
        for file in json.loads(body)["files"]:
            is_large = file["path"].endswith(LARGE)
            content = there.get(file["path"])
            answers.append({
                "path": file["path"],
                "uploadMode": "lfs" if is_large else "regular",
                "shouldIgnore": False,
                "oid": None if content is None else _oid(content, is_large),
            })  # fmt: skip
        self._json({"files": answers})

    def _batch(self, name: str, asked: dict) -> None:
        if name.split("/")[0] != OWNER:
            self._plain(403, b"{}")
            return
        objects = []
        for each in asked["objects"]:
            upload = {"upload": {"href": f"{self.server.endpoint}/lfs/{each['oid']}"}}
            has = each["oid"] in self.server.large
            objects.append({**each, **({} if has else {"actions": upload})})
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, branch: str, body: bytes, fault: str | None) -> None:
        header, *rest = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit") not in (None, self.server.branches[name][branch]):
            self._plain(412, b"{}")
            return
        change: dict[str, bytes | None] = {}
        for each in rest:
            value = each["value"]
            if each["key"] == "file":
                change[value["path"]] = base64.b64decode(value["content"])
            elif each["key"] == "lfsFile":
                change[value["path"]] = self.server.large[value["oid"]]
            else:
                assert each["key"] == "deletedFile"
                change[value["path"]] = None
        if fault == "alter":
            change["config.json"] = b"{}"
        oid = self.server.commit(name, branch, change)
        url = f"{self.server.endpoint}/{name}/commit/{oid}"
        self._json({"commitUrl": url, "commitOid": oid, "success": True})


def _oid(content: bytes, is_large: bool) -> str:
    if is_large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(folder: Path) -> Iterator[ModelHub]:
    server = ModelHub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[ModelHub]:
    """Yield a hub that this process's huggingface_hub uses, with a token that the hub accepts.

    The library has read HF_ENDPOINT and so on at its import, so its constants are set instead.
    """
    with serving(tmp_path / "hub") as server:
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "hub_cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
            "HF_TOKEN_PATH": str(tmp_path / "no_token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
