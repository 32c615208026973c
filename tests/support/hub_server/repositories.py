"""The account, and repositories as such: made, deleted, described; their branches, tags and commits."""

import json
from typing import ClassVar

from hub_server.handler import API, REV, Handler
from hub_server.store import HubError, git_oid
from hub_server.uploads import LFS

ATTRIBUTES = "".join(f"{p} filter=lfs diff=lfs merge=lfs -text\n" for p in LFS).encode()


class Repositories(Handler):
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

    ROUTES: ClassVar[list] = [
        ("GET", r"/api/whoami-v2", whoami),
        ("POST", r"/api/repos/create", create),
        ("DELETE", r"/api/repos/delete", delete),
        ("POST", r"/api/validate-yaml", validate_yaml),
        ("GET", API, info),
        ("GET", rf"{API}/revision/{REV}", info),
        (("POST", "DELETE"), rf"{API}/(?P<kind>branch|tag)/{REV}", ref),
        ("GET", rf"{API}/refs", refs),
        ("GET", rf"{API}/commits/{REV}", commits),
    ]
