"""What the hub keeps: repositories with their commits, and the files' content under its hash."""

import hashlib
import json
import threading
import time
from pathlib import Path


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
