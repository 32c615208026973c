"""What goes wrong on the way to a hub, on order: error answers and cut connections, so many times.

with faults(hub, "POST", "/commit/", 500, times=2): ...
with faults(hub, "PUT", "/lfs/", "cut", times=1): ...  # the connection ends in the middle of the upload
"""

import contextlib
import json
import socket
import threading


class Fault:
    def __init__(self, method, part_of_path, what, times):
        self.method, self.part_of_path, self.what, self.left = method, part_of_path, what, times
        self.happened = 0
        self._lock = threading.Lock()

    def strikes(self, method, path):
        with self._lock:
            if method != self.method or self.part_of_path not in path or self.left == 0:
                return False
            self.left -= 1
            self.happened += 1
            return True


@contextlib.contextmanager
def faults(hub, method, part_of_path, what, times=-1):
    """Within the block the hub answers such requests with the status `what`, or cuts the connection."""
    fault = Fault(method, part_of_path, what, times)
    hub.httpd.faults.append(fault)
    try:
        yield fault
    finally:
        hub.httpd.faults.remove(fault)


def strike(handler):
    """Lets the first fault that is meant for a request happen; whether one did."""
    for fault in handler.server.faults:
        if fault.strikes(handler.command, handler.path):
            break
    else:
        return False
    if fault.what == "cut":
        handler.rfile.read1(1024)  # some of the body has arrived
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True
    handler.body()
    handler.received = 0
    handler.send(fault.what, json.dumps({"error": f"fault {fault.what}"}).encode())
    return True
