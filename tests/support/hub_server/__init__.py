"""A small Hugging Face Hub on loopback, for tests: real HTTP, real storage, no mocks.

    with HubServer(root) as hub:
        os.environ["HF_ENDPOINT"] = hub.url  # before huggingface_hub is imported

It is a model of the hub, not the hub: no Xet, no pull requests, no gating.
Speaks what huggingface_hub 2.4 needs with HF_HUB_DISABLE_XET=1: repos, preupload, LFS batch + PUT + verify,
NDJSON commits, tree, paths-info, refs, revisions and resolve (HEAD, GET, Range). Standard library only.
`hub_faults` lets it fail on order.
On disk: ROOT/objects/<id> (git blob sha1, or sha256 for LFS) and ROOT/repos/<type>s/<ns>/<name>.json.
"""

import threading
from http.server import ThreadingHTTPServer

from hub_server.downloads import Downloads
from hub_server.repositories import Repositories
from hub_server.store import Store
from hub_server.uploads import Uploads


class HubServer:
    def __init__(self, root, port=0, token="hf_test"):
        routes = [*Repositories.ROUTES, *Uploads.ROUTES, *Downloads.ROUTES]
        attributes = {"store": Store(root), "token": token, "ROUTES": routes}
        handler = type("BoundHandler", (Repositories, Uploads, Downloads), attributes)
        self.httpd = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.httpd.daemon_threads, self.httpd.log, self.httpd.faults = True, [], []
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.httpd.shutdown()
        self.httpd.server_close()
