"""Writes down what the kernel sees executed. It asks nothing of the broker.

    witness.py BROKER PROGRAM

The kernel's process connector announces every fork and every execution on the host. Noted are the
first execution of each process that the process BROKER starts, whatever it is, and every execution
of PROGRAM, whoever does it; for each one JSON line with what /proc says of it. Processes of BROKER
that have ended, or are another program already, before /proc was read are noted too, as `gone`.

Standard output: `ready`, or `unavailable` and the end where the kernel has no connector for us;
then the lines; at the end of standard input those that are left, and `end`. Nothing may be missing:
if the kernel had to drop announcements, this ends with an error.
"""

import collections
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

NETLINK_CONNECTOR = 11
PROC_CONNECTOR = 1
LISTEN = 1
FORK, EXEC, EXIT = 0x1, 0x2, 0x80000000
HEADERS = struct.calcsize("=IHHII") + struct.calcsize("=IIIIHH")
SO_RCVBUFFORCE = 33


def connected():
    """A socket on which the kernel announces what processes do, or None."""
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
        kernel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        kernel.bind((0, PROC_CONNECTOR))
        word = struct.pack("=I", LISTEN)
        message = struct.pack("=IIIIHH", PROC_CONNECTOR, 1, 0, 0, len(word), 0) + word
        kernel.send(struct.pack("=IHHII", 16 + len(message), 3, 0, 0, 0) + message)
    except OSError:
        return None
    kernel.setblocking(False)
    # Where we may listen but are told nothing, as in a container, the request is ignored silently.
    # An execution is announced before it is over, so after this one there is an announcement.
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    heard = any(kind == EXEC and pid == child.pid for kind, _, pid, *_ in announced(kernel))
    return kernel if heard else None


def announced(kernel):
    """Every announcement that waits: kind, nanoseconds since boot, and up to four process ids."""
    while True:
        try:
            data = kernel.recv(4096)
        except BlockingIOError:
            return
        padded = data.ljust(HEADERS + 32, b"\0")
        kind, _cpu, at, *ids = struct.unpack_from("=IIQ4I", padded, HEADERS)
        yield kind, at, *ids


def read(pid, name):
    """The bytes of a file in a process's /proc folder."""
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def place(pid, name):
    """Where a link in a process's /proc folder leads: path, device, inode."""
    path = f"/proc/{pid}/{name}"
    found = os.stat(path)
    return [os.readlink(path), found.st_dev, found.st_ino]


def described(pid):
    """What /proc says of a process that has just executed something."""
    status = dict(line.split(":", 1) for line in read(pid, "status").decode().splitlines())
    return {
        "ppid": int(status["PPid"]),
        "uid": int(status["Uid"].split()[1]),
        "gid": int(status["Gid"].split()[1]),
        "groups": [int(gid) for gid in status["Groups"].split()],
        "executable": place(pid, "exe"),
        "directory": place(pid, "cwd"),
        "argv": read(pid, "cmdline").hex(),
        "environment": read(pid, "environ").hex(),
    }


def since_boot():
    """What to add to the kernel's time, which counts from boot; time lost between two looks at the
    clocks makes it too small."""
    return max(time.time_ns() - time.monotonic_ns() for _ in range(10))


class Witness:
    """Whom to look at, and what to say of them."""

    def __init__(self, kernel, broker, program):
        self.kernel, self.broker = kernel, broker
        found = os.stat(program)
        self.program = [found.st_dev, found.st_ino]
        # Processes that the broker started and that have executed nothing yet.
        self.started = set()
        # Announcements that were received and not looked at yet.
        self.waiting = collections.deque()

    def executed(self, pid, at):
        """Notes an execution, if it is one to note."""
        by_broker = pid in self.started
        self.started.discard(pid)
        line = {"pid": pid, "time_ns": at + since_boot()}
        try:
            line |= described(pid)
            noted = by_broker or line["executable"][1:] == self.program
        except (FileNotFoundError, ProcessLookupError):
            line |= {"ppid": self.broker, "gone": True}
            noted = by_broker
        self.waiting.extend(announced(self.kernel))
        if any(kind == EXEC and ids[1] == pid for kind, _, *ids in self.waiting):
            # Described is perhaps what it became since; that comes in its own turn.
            line = {"pid": pid, "time_ns": line["time_ns"], "ppid": self.broker, "gone": True}
            noted = by_broker
        if noted:
            print(json.dumps(line), flush=True)

    def hear(self):
        """Takes in every announcement that waits."""
        self.waiting.extend(announced(self.kernel))
        while self.waiting:
            kind, at, *ids = self.waiting.popleft()
            if kind == FORK:
                _, parent, thread, child = ids
                if parent == self.broker and thread == child:
                    self.started.add(child)
            elif kind == EXEC:
                self.executed(ids[1], at)
            elif kind == EXIT:
                self.started.discard(ids[0])


def main():
    """Listens until standard input ends."""
    kernel = connected()
    if kernel is None:
        print("unavailable")
        return
    witness = Witness(kernel, int(sys.argv[1]), sys.argv[2])
    print("ready", flush=True)
    over = False
    while not over:
        readable, _, _ = select.select([kernel, sys.stdin], [], [])
        over = sys.stdin in readable
        # An execution is announced before the call returns: all that happened until now is here.
        witness.hear()
    print("end", flush=True)


main()
