"""Files on their way to the hub: preupload, LFS batch + PUT + verify, and the commit that takes them up."""

import base64
import fnmatch
import hashlib
import json
from typing import ClassVar

from hub_server.handler import API, REV, WEB, Handler
from hub_server.store import HubError, git_oid

LFS = ["*.safetensors", "*.bin", "*.pt", "*.ckpt", "*.parquet", "*.arrow", "*.npz", "*.npy", "*.h5", "*.zip", "*.tar"]
LFS_MIN = 10 * 1024 * 1024


class Uploads(Handler):
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
                else:
                    self.change(files, key, val)
            pull = f"refs/pr/{len(repo['branches'])}" if self.query.get("create_pr") == "1" else None
            new = self.store.commit(repo, pull or rev, files, title)
            self.store.save(rtype, rid, repo)
        prefix = "" if rtype == "model" else f"{rtype}s/"
        self.send(
            200,
            {
                "success": True,
                "commitOid": new,
                "commitUrl": f"{self.base()}/{prefix}{rid}/commit/{new}",
                "hookOutput": "",
                **({"pullRequestUrl": f"{self.base()}/{prefix}{rid}/discussions/{pull[8:]}"} if pull else {}),
            },
        )

    def change(self, files, key, val):
        """What one line of a commit does to the files of a revision."""
        if key == "file":
            data = base64.b64decode(val["content"])
            self.store.put(data, git_oid(data))
            files[val["path"]] = {"oid": git_oid(data), "size": len(data)}
        elif key == "lfsFile":
            path = self.store.object(val["oid"])
            if not path.exists():
                raise HubError(400, "BadRequest", f"LFS pointer to a missing object: {val['path']}")
            pointer = (
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{val['oid']}\nsize {path.stat().st_size}\n"
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

    ROUTES: ClassVar[list] = [
        ("POST", rf"{API}/preupload/{REV}", preupload),
        ("POST", rf"{WEB}\.git/info/lfs/objects/batch", lfs_batch),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_put),
        ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", lfs_verify),
        ("POST", rf"{API}/commit/{REV}", commit),
    ]
