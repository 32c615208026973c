"""Files on their way from the hub: which ones a revision has, and their content, whole or in part."""

import hashlib
import json
import re
from typing import ClassVar
from urllib.parse import parse_qs, quote

from hub_server.handler import API, REV, WEB, Handler
from hub_server.store import HubError


class Downloads(Handler):
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

    ROUTES: ClassVar[list] = [
        ("GET", rf"{API}/tree/{REV}(?:/(?P<path>.+))?", tree),
        ("POST", rf"{API}/paths-info/{REV}", paths_info),
        (("GET", "HEAD"), rf"{WEB}/resolve/{REV}/(?P<path>.+)", resolve),
        (("GET", "HEAD"), r"/cdn/(?P<oid>[0-9a-f]{64})", cdn),
    ]
