"""A hub of one model on 127.0.0.1, which answers as the Hugging Face hub does: listings, ETags, redirects to where large files lie, ranges."""

import hashlib
import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")
"""Files that the hub keeps elsewhere, and redirects to."""


@dataclass
class Hub:
    """What is served, and what was asked for.

    revisions   branches and tags, each with its commit
    commits     each commit's files
    token       without which there is no such model; None for a public one
    breaking    files that break off after so many bytes, once each
    stalled     files that never go on after half of their bytes
    asked       method, path and range of each request, in order
    leaked      tokens that were sent to where large files lie
    """

    model: str
    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    breaking: dict[str, int] = field(default_factory=dict)
    stalled: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    address: str = ""
    down: bool = False
    half_sent: threading.Event = field(default_factory=threading.Event)

    def commit(self, files: dict[str, bytes], *revisions: str) -> str:
        """Add a commit, to which these branches and tags point from now on."""
        name = hashlib.sha1(json.dumps(sorted(map(str, files.items()))).encode()).hexdigest()
        self.commits[name] = files
        self.revisions |= dict.fromkeys((*revisions, name), name)
        return name

    @property
    def elsewhere(self) -> str:
        """Where large files lie: on another host, to which the client sends no token."""
        return self.address.replace("127.0.0.1", "localhost")

    def fetched(self) -> list[str]:
        """The files whose contents were asked for since the last time, by name."""
        contents = re.compile(r"/(?:owner/[^/]+/resolve|elsewhere)/[^/]+/(.+)")
        found = [contents.fullmatch(path) for method, path, _ in self.asked if method == "GET"]
        self.asked.clear()
        return sorted({match[1] for match in found if match})


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their paths in it."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextmanager
def serving(hub: Hub) -> Generator[Hub]:
    """Serve it while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Answers,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class Answers(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers["Range"]))
        if hub.down:
            self.say(503, {"X-Error-Message": "the hub is being mended"})
        elif path.startswith("/elsewhere/"):
            self.hub.leaked += filter(None, [self.headers["Authorization"]])
            self.send_file(path.split("/", 3)[-1], path.split("/")[2])
        elif not path.removeprefix("/api/models").startswith(f"/{hub.model}/") or (
            hub.token and self.headers["Authorization"] != f"Bearer {hub.token}"
        ):
            self.say(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."})
        elif match := re.fullmatch(f"/api/models/{hub.model}/(revision|tree)/(.+)", path):
            self.list_files(match[1], hub.revisions.get(match[2]))
        elif match := re.fullmatch(f"/{hub.model}/resolve/([^/]+)/(.+)", path):
            self.resolve(hub.revisions.get(match[1]), match[2])
        else:
            self.say(404, {"X-Error-Code": "EntryNotFound"})

    def list_files(self, kind: str, commit: str | None) -> None:
        if commit is None:
            self.say(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return
        files = self.hub.commits[commit]
        if kind == "revision":
            siblings = [{"rfilename": name} for name in files]
            self.say_json({"id": self.hub.model, "modelId": self.hub.model, "sha": commit, "siblings": siblings})
            return
        entries: list[dict[str, Any]] = []
        for name, contents in files.items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(contents), "oid": git_id(contents)}
            if name.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(contents).hexdigest(), "size": len(contents), "pointerSize": 134}
            entries.append(entry)
        self.say_json(entries)

    def resolve(self, commit: str | None, name: str) -> None:
        contents = self.hub.commits.get(commit or "", {}).get(name)
        if contents is None:
            code = "EntryNotFound" if commit else "RevisionNotFound"
            self.say(404, {"X-Error-Code": code, "X-Repo-Commit": commit or ""})
        elif name.endswith(LARGE):
            headers = {
                "X-Linked-Etag": f'"{hashlib.sha256(contents).hexdigest()}"',
                "X-Linked-Size": str(len(contents)),
            }
            self.say(
                302,
                headers
                | {"X-Repo-Commit": commit or "", "Location": f"{self.hub.elsewhere}/elsewhere/{commit}/{name}"},
            )
        else:
            self.say(200, {"ETag": f'"{git_id(contents)}"', "X-Repo-Commit": commit or ""}, contents)

    def send_file(self, name: str, commit: str) -> None:
        contents = self.hub.commits[commit][name]
        first = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")) else 0
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(contents) - 1}/{len(contents)}")
        self.send_header("ETag", f'"{hashlib.sha256(contents).hexdigest()}"')
        self.send_header("Content-Length", str(len(contents) - first))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = self.hub.breaking.pop(name, len(contents))
        if name in self.hub.stalled:
            stop = len(contents) // 2
        self.wfile.write(contents[first:stop])
        self.wfile.flush()
        if name in self.hub.stalled:
            self.hub.half_sent.set()
            threading.Event().wait(60)
        if stop < len(contents):
            self.close_connection = True

    def say_json(self, values: Any) -> None:
        self.say(200, {"Content-Type": "application/json"}, json.dumps(values).encode())

    def say(self, code: int, headers: dict[str, str], contents: bytes = b"") -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(contents)


def git_id(contents: bytes) -> str:
    """What git calls a file of these contents."""
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents).hexdigest()
