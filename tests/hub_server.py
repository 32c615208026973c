"""A small Hugging Face Hub on loopback, for tests: real HTTP, real storage, no mocks.

    with HubServer(root) as hub:
        os.environ["HF_ENDPOINT"] = hub.url  # before huggingface_hub is imported

It is a model of the hub, not the hub: no Xet, no pull requests, no gating.
Speaks what huggingface_hub 2.4 needs with HF_HUB_DISABLE_XET=1: repos, preupload, LFS batch + PUT + verify,
NDJSON commits, tree, paths-info, refs, revisions and resolve (HEAD, GET, Range). Standard library only.
On disk: ROOT/objects/<id> (git blob sha1, or sha256 for LFS) and ROOT/repos/<type>s/<ns>/<name>.json.
"""

import base64
import fnmatch
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hub_faults import strike

LFS = ["*.safetensors", "*.bin", "*.pt", "*.ckpt", "*.parquet", "*.arrow", "*.npz", "*.npy", "*.h5", "*.zip", "*.tar"]
LFS_MIN = 10 * 1024 * 1024
ATTRIBUTES = "".join(f"{p} filter=lfs diff=lfs merge=lfs -text\n" for p in LFS).encode()


class HubError(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Store:
    """Repositories as JSON manifests over a content-addressed object folder."""

    def __init__(self, root):
        self.root, self.lock = Path(root), threading.RLock()
        (self.root / "objects").mkdir(parents=True, exist_ok=True)

    def object(self, oid):
        return self.root / "objects" / oid

    def put(self, data, oid):
        tmp = self.object(f"{oid}.{threading.get_ident()}.tmp")
        tmp.write_bytes(data)
        tmp.replace(self.object(oid))

    def path(self, rtype, rid):
        return self.root / "repos" / f"{rtype}s" / f"{rid}.json"

    def load(self, rtype, rid):
        try:
            return json.loads(self.path(rtype, rid).read_text())
        except FileNotFoundError:
            raise HubError(404, "RepoNotFound", "Repository not found") from None

    def save(self, rtype, rid, repo):
        path = self.path(rtype, rid)
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp = path.with_suffix(".tmp")
        tmp.write_text(json.dumps(repo))
        tmp.replace(path)

    def commit(self, repo, branch, files, title):
        parent = repo["branches"].get(branch)
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        entry = {"parent": parent, "title": title, "date": now, "files": files}
        sha = hashlib.sha1(json.dumps([entry, time.time_ns()]).encode()).hexdigest()
        repo["commits"][sha], repo["branches"][branch] = entry, sha
        return sha

    def revision(self, repo, rev):
        sha = repo["branches"].get(rev) or repo["tags"].get(rev) or (rev if rev in repo["commits"] else None)
        if sha is None:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        return sha, repo["commits"][sha]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True  # unbuffered writes cost 40 ms a request (delayed ACK)
    store: Store
    token: str | None
    ROUTES: ClassVar[list] = []

    # ---- plumbing
    def log_message(self, *args):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status, payload=b"", ctype="application/json; charset=utf-8", length=None, **headers):
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.send_response(status)
        if data:
            self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        self.server.log.append(
            {
                "method": self.command,
                "path": self.path,
                "status": status,
                "bytes": self.received,
                "range": self.headers.get("Range"),
                "auth": "Authorization" in self.headers,
            }
        )
        if self.command != "HEAD":  # logged before the last byte leaves, so a test that sees the answer sees the entry
            self.wfile.write(data)

    def handle_any(self):
        if strike(self):
            return
        url, raw = urlsplit(self.path), self.body()
        self.query, self.received = {k: v[-1] for k, v in parse_qs(url.query).items()}, len(raw)
        try:
            for method, pattern, func in self.ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in method:
                    args = {k: unquote(v or "") for k, v in match.groupdict().items()}
                    func(self, raw, **args)
                    break
            else:
                raise HubError(404, "NotImplemented", f"no route for {self.command} {url.path}")
        except HubError as err:
            # An error answer to HEAD has no body, so the client reads these two headers.
            self.send(err.status, {"error": err.message}, X_Error_Code=err.code, X_Error_Message=err.message)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def base(self):
        return f"http://{self.headers['Host']}"

    def authed(self):
        return self.token is None or self.headers.get("Authorization") == f"Bearer {self.token}"

    def need_write(self):
        if not self.authed():
            raise HubError(401, "Unauthorized", "Invalid credentials in Authorization header")

    def repo(self, types, rid, rev=None):
        rtype = types.rstrip("/").removesuffix("s") or "model"
        repo = self.store.load(rtype, rid)
        if repo["private"] and not self.authed():
            raise HubError(401, "RepoNotFound", "Repository not found")
        return (rtype, repo) if rev is None else (rtype, repo, *self.store.revision(repo, rev))

    # ---- account and repositories
    def whoami(self, raw):
        self.need_write()
        self.send(
            200,
            {
                "type": "user",
                "name": "user",
                "fullname": "user",
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}},
            },
        )

    def create(self, raw):
        self.need_write()
        req = json.loads(raw)
        rtype, rid = req.get("type") or "model", f"{req.get('organization') or 'user'}/{req['name']}"
        url = f"{self.base()}/{'' if rtype == 'model' else rtype + 's/'}{rid}"
        with self.store.lock:
            if self.store.path(rtype, rid).exists():
                return self.send(409, {"error": "You already created this repo", "url": url})
            private = req.get("visibility") == "private" or bool(req.get("private"))
            repo = {"private": private, "branches": {}, "tags": {}, "commits": {}}
            oid = git_oid(ATTRIBUTES)
            self.store.put(ATTRIBUTES, oid)
            self.store.commit(
                repo, "main", {".gitattributes": {"oid": oid, "size": len(ATTRIBUTES)}}, "initial commit"
            )
            self.store.save(rtype, rid, repo)
        self.send(200, {"url": url, "name": rid, "id": rid})
        return None

    def delete(self, raw):
        self.need_write()
        req = json.loads(raw)
        rtype, rid = req.get("type") or "model", f"{req.get('organization') or 'user'}/{req['name']}"
        self.store.load(rtype, rid)
        self.store.path(rtype, rid).unlink()
        self.send(200, {})

    def validate_yaml(self, raw):
        self.send(200, {"errors": [], "warnings": []})

    # ---- upload
    def preupload(self, raw, types, rid, rev):
        self.need_write()
        _, _, _, head = self.repo(types, rid, rev)
        out = []
        for file in json.loads(raw)["files"]:
            lfs = file["size"] >= LFS_MIN or any(fnmatch.fnmatch(file["path"].split("/")[-1], p) for p in LFS)
            old = head["files"].get(file["path"])
            out.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": False,
                    **({"oid": old.get("lfs") or old["oid"]} if old else {}),
                }
            )
        self.send(200, {"files": out, "commitOid": None})

    def lfs_batch(self, raw, types, rid):
        self.need_write()
        self.repo(types, rid)
        objects = []
        for obj in json.loads(raw)["objects"]:
            entry = {"oid": obj["oid"], "size": obj["size"], "authenticated": True}
            if not self.store.object(obj["oid"]).exists():  # no "actions": the client skips the upload
                entry["actions"] = {
                    "upload": {"href": f"{self.base()}/lfs/{obj['oid']}", "header": {}},
                    "verify": {"href": f"{self.base()}/lfs/{obj['oid']}/verify", "header": {}},
                }
            objects.append(entry)
        self.send(200, {"transfer": "basic", "objects": objects}, ctype="application/vnd.git-lfs+json")

    def lfs_put(self, raw, oid):  # a presigned URL on the real hub: no Authorization is sent
        if hashlib.sha256(raw).hexdigest() != oid:
            raise HubError(400, "BadDigest", "sha256 mismatch")
        self.store.put(raw, oid)
        self.send(200)

    def lfs_verify(self, raw, oid):
        path = self.store.object(oid)
        if not path.exists() or path.stat().st_size != json.loads(raw)["size"]:
            raise HubError(422, "VerifyFailed", "object missing or of another size")
        self.send(200, {})

    def commit(self, raw, types, rid, rev):
        self.need_write()
        with self.store.lock:
            rtype, repo, sha, head = self.repo(types, rid, rev)
            if rev not in repo["branches"]:
                raise HubError(400, "BadRequest", "commits go to a branch")
            files, title = dict(head["files"]), ""
            for line in raw.splitlines():
                item = json.loads(line)
                key, val = item["key"], item["value"]
                if key == "header":
                    title = val["summary"]
                    if val.get("parentCommit") not in (None, sha):
                        raise HubError(
                            412, "PreconditionFailed", "A commit has happened since. Please refresh and try again."
                        )
                elif key == "file":
                    data = base64.b64decode(val["content"])
                    self.store.put(data, git_oid(data))
                    files[val["path"]] = {"oid": git_oid(data), "size": len(data)}
                elif key == "lfsFile":
                    path = self.store.object(val["oid"])
                    if not path.exists():
                        raise HubError(400, "BadRequest", f"LFS pointer to a missing object: {val['path']}")
                    pointer = (
                        "version https://git-lfs.github.com/spec/v1\n"
                        f"oid sha256:{val['oid']}\nsize {path.stat().st_size}\n"
                    )
                    files[val["path"]] = {
                        "oid": git_oid(pointer.encode()),
                        "size": path.stat().st_size,
                        "lfs": val["oid"],
                        "pointer": len(pointer),
                    }
                elif key in ("deletedFile", "deletedFolder"):
                    gone = [
                        p
                        for p in files
                        if p == val["path"] or (key == "deletedFolder" and p.startswith(val["path"].rstrip("/") + "/"))
                    ]
                    if not gone:
                        raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
                    for p in gone:
                        del files[p]
            new = self.store.commit(repo, rev, files, title)
            self.store.save(rtype, rid, repo)
        prefix = "" if rtype == "model" else f"{rtype}s/"
        self.send(
            200,
            {
                "success": True,
                "commitOid": new,
                "commitUrl": f"{self.base()}/{prefix}{rid}/commit/{new}",
                "hookOutput": "",
            },
        )

    def ref(self, raw, types, rid, kind, rev):
        self.need_write()
        with self.store.lock:
            rtype, repo = self.repo(types, rid)
            table, req = repo["branches" if kind == "branch" else "tags"], json.loads(raw or b"{}")
            name = req.get("tag") or rev if kind == "tag" else rev
            if self.command == "DELETE":
                if table.pop(rev, None) is None:
                    raise HubError(404, "RevisionNotFound", f"Invalid rev id: {rev}")
            elif name in table:
                raise HubError(409, "Conflict", f"Reference already exists: {name}")
            else:
                table[name] = self.store.revision(repo, rev if kind == "tag" else req.get("startingPoint") or "main")[
                    0
                ]
            self.store.save(rtype, rid, repo)
        self.send(200, {})

    # ---- read
    def entry(self, path, files):
        if path in files:
            f = files[path]
            lfs = {"lfs": {"oid": f["lfs"], "size": f["size"], "pointerSize": f["pointer"]}} if f.get("lfs") else {}
            return {"type": "file", "path": path, "oid": f["oid"], "size": f["size"], **lfs}
        below = {p: f["oid"] for p, f in files.items() if p.startswith(path + "/")}
        return (
            {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(json.dumps(below).encode()).hexdigest()}
            if below
            else None
        )

    def info(self, raw, types, rid, rev=""):
        rtype, repo, sha, head = self.repo(types, rid, rev or "main")
        key = {"model": "modelId", "dataset": "datasetId"}.get(rtype, "spaceId")
        self.send(
            200,
            {
                "_id": sha[:24],
                "id": rid,
                key: rid,
                "author": rid.split("/")[0],
                "sha": sha,
                "private": repo["private"],
                "gated": False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "lastModified": head["date"],
                "createdAt": head["date"],
                "siblings": [{"rfilename": p} for p in sorted(head["files"])],
            },
        )

    def tree(self, raw, types, rid, rev, path=""):
        files = self.repo(types, rid, rev)[3]["files"]
        top = path + "/" if path else ""
        names = set()
        for p in (p for p in files if p.startswith(top)):
            parts = p[len(top) :].split("/")
            names |= (
                {top + "/".join(parts[: i + 1]) for i in range(len(parts))}
                if self.query.get("recursive", "").lower() in ("1", "true")
                else {top + parts[0]}
            )
        if path and not names:
            raise HubError(404, "EntryNotFound", f"{path} does not exist on {rev!r}")
        self.send(200, [self.entry(p, files) for p in sorted(names)])

    def paths_info(self, raw, types, rid, rev):
        files = self.repo(types, rid, rev)[3]["files"]
        form = json.loads(raw) if raw[:1] == b"{" else parse_qs(raw.decode())
        self.send(200, [e for p in form.get("paths", []) if (e := self.entry(p.strip("/"), files))])

    def refs(self, raw, types, rid):
        repo = self.repo(types, rid)[1]

        def rows(kind, table):
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": s} for n, s in table.items()]

        self.send(
            200, {"branches": rows("heads", repo["branches"]), "tags": rows("tags", repo["tags"]), "converts": []}
        )

    def commits(self, raw, types, rid, rev):
        repo, sha = self.repo(types, rid, rev)[1:3]
        out = []
        while sha:
            c = repo["commits"][sha]
            out.append(
                {"id": sha, "title": c["title"], "message": "", "date": c["date"], "authors": [{"user": "user"}]}
            )
            sha = c["parent"]
        self.send(200, out, X_Total_Count=len(out))

    def resolve(self, raw, types, rid, rev, path):
        _, _, sha, head = self.repo(types, rid, rev)
        file = head["files"].get(path)
        if file is None:
            return self.send(
                404,
                b"Entry not found",
                "text/plain",
                X_Error_Code="EntryNotFound",
                X_Error_Message="Entry not found",
                X_Repo_Commit=sha,
            )
        extra = {
            "X_Repo_Commit": sha,
            "Accept_Ranges": "bytes",
            "Content_Disposition": f'inline; filename="{quote(path.split("/")[-1])}"',
        }
        if file.get("lfs"):  # as the real hub: a redirect to a CDN on another host name, which must not see the token
            port = self.server.server_address[1]
            return self.send(
                302,
                X_Linked_Size=file["size"],
                X_Linked_ETag=f'"{file["lfs"]}"',
                ETag=f'"{file["lfs"]}"',
                Location=f"http://localhost:{port}/cdn/{file['lfs']}",
                **extra,
            )
        self.blob(file["oid"], **extra)
        return None

    def cdn(self, raw, oid):
        self.blob(oid, Accept_Ranges="bytes")

    def blob(self, oid, **headers):
        path, status = self.store.object(oid), 200
        if not path.exists():
            raise HubError(404, "EntryNotFound", "no such object")
        size = path.stat().st_size
        start, end = 0, size - 1
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or ""):
            first, last = match.groups()
            start, end = (int(first), min(int(last or end), end)) if first else (max(size - int(last), 0), end)
            if start >= size:
                return self.send(416, Content_Range=f"bytes */{size}")
            status, headers["Content_Range"] = 206, f"bytes {start}-{end}/{size}"
        with path.open("rb") as fh:
            fh.seek(start)
            data = fh.read(end - start + 1) if self.command != "HEAD" else b""
        self.send(status, data, "application/octet-stream", length=end - start + 1, ETag=f'"{oid}"', **headers)
        return None


_API = r"/api/(?P<types>models|datasets|spaces)/(?P<rid>[^/]+/[^/]+)"
_WEB = r"/(?P<types>datasets/|spaces/)?(?P<rid>[^/]+/[^/]+)"
_REV = r"(?P<rev>[^/]+)"
Handler.ROUTES = [
    ("GET", r"/api/whoami-v2", Handler.whoami),
    ("POST", r"/api/repos/create", Handler.create),
    ("DELETE", r"/api/repos/delete", Handler.delete),
    ("POST", r"/api/validate-yaml", Handler.validate_yaml),
    ("POST", rf"{_API}/preupload/{_REV}", Handler.preupload),
    ("POST", rf"{_API}/commit/{_REV}", Handler.commit),
    ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", Handler.lfs_put),
    ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", Handler.lfs_verify),
    (("GET",), rf"{_API}/tree/{_REV}(?:/(?P<path>.+))?", Handler.tree),
    ("POST", rf"{_API}/paths-info/{_REV}", Handler.paths_info),
    ("GET", rf"{_API}/refs", Handler.refs),
    ("GET", rf"{_API}/commits/{_REV}", Handler.commits),
    (("POST", "DELETE"), rf"{_API}/(?P<kind>branch|tag)/{_REV}", Handler.ref),
    ("GET", _API, Handler.info),
    ("GET", rf"{_API}/revision/{_REV}", Handler.info),
    (("GET", "HEAD"), rf"{_WEB}/resolve/{_REV}/(?P<path>.+)", Handler.resolve),
    (("GET", "HEAD"), r"/cdn/(?P<oid>[0-9a-f]{64})", Handler.cdn),
]


class HubServer:
    def __init__(self, root, port=0, token="hf_test"):
        handler = type("BoundHandler", (Handler,), {"store": Store(root), "token": token})
        self.httpd = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.httpd.daemon_threads, self.httpd.log, self.httpd.faults = True, [], []
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.httpd.shutdown()
        self.httpd.server_close()
