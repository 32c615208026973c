"""How a request comes in and an answer goes out; the modules beside this one answer requests."""

import json
import re
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from hub_faults import strike

from hub_server.store import HubError, Store

# Of addresses: a repository as the API and as the web pages name it, and a revision of it.
API = r"/api/(?P<types>models|datasets|spaces)/(?P<rid>[^/]+/[^/]+)"
WEB = r"/(?P<types>datasets/|spaces/)?(?P<rid>[^/]+/[^/]+)"
REV = r"(?P<rev>[^/]+)"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True  # unbuffered writes cost 40 ms a request (delayed ACK)
    store: Store
    token: str | None
    ROUTES: ClassVar[list] = []  # (methods, pattern of the path, function that answers)

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
