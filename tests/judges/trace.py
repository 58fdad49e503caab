"""Writes a trace for agentack: what was decided is the broker's trail, what was executed is what
others saw. Standard error and code 1: the evidence does not hold, and which piece.

Attribution is by what was executed, never by the broker's word: an execution is put down to the
approval of exactly that action, whether or not it went through the broker.
"""

import argparse
import json
import sys
from datetime import datetime, timezone

from statements import Refused, digest, keys_of, require
from trail import decisions, leases_of, records_of

NANOS = 1_000_000_000


class Execution:
    """One execution as a witness described it."""

    def __init__(self, line):
        self.pid, self.ppid, self.time = line["pid"], line["ppid"], line["time_ns"] / NANOS
        if line.get("gone"):
            # Nobody could look at it; so it is nothing that was approved.
            self.action = {"argv": [], "pid": self.pid}
            return
        parts = {name: bytes.fromhex(line[name]) for name in ("argv", "environment")}
        parts = {name: data.decode("latin-1").split("\0")[:-1] for name, data in parts.items()}
        self.action = {
            "argv": parts["argv"],
            "executable": line["executable"],
            "directory": line["directory"],
            "environment": dict(one.split("=", 1) for one in parts["environment"]),
            "account": [line["uid"], line["gid"], line["groups"]],
        }


def executions_of(path):
    """The lines of a witness, in the order of time."""
    with open(path, encoding="utf-8") as file:
        found = [Execution(json.loads(line)) for line in file]
    return sorted(found, key=lambda one: one.time)


def compare(seen, recorded):
    """Refuses where the kernel's witness and the executed program itself differ."""
    ours, theirs = ({one.pid: one.action for one in side} for side in (seen, recorded))
    differ = sorted(pid for pid in ours | theirs if ours.get(pid) != theirs.get(pid))
    require(not differ, f"the witness and the recorder differ about the processes {differ}")


def attributed(one, decided, broker):
    """Which decision an execution goes back to, or None."""
    same = [given for given in decided if given.action == one.action and given.at <= one.time]
    burned = [
        given
        for given in decided
        if given.burned_at is not None and given.burned_at <= one.time and not given.runs
    ]
    # A lease was burned for exactly this.
    for given in burned:
        if given in same:
            return given
    # Nothing is burned, but somebody's word on it is used up, over, or was no.
    for given in reversed(same):
        is_over = given.lease and one.time >= given.lease["expires_at"]
        if given.runs or is_over or given.revoked_at or not given.approved:
            return given
    # The broker itself ran it for a lease that was burned for something else.
    if one.ppid == broker:
        for given in burned:
            if given.finished_at is None or one.time < given.finished_at + 1:
                return given
    return None


class Trace:
    """Events in agentack's form."""

    def __init__(self, session):
        self.session, self.events = session, []

    def add(self, at, kind, number, action=None, **fields):
        """One event; `at` in seconds."""
        moment = datetime.fromtimestamp(at, timezone.utc).isoformat()
        event = {"schema_version": 2, "type": kind, "timestamp": moment, "session_id": self.session}
        if number is not None:
            event["action_id"] = number
        if action is not None:
            event["action"] = {"tool": "process", "operation": "execute", "parameters": action}
        self.events.append((at, event | fields))

    def decided(self, given):
        """A request, what was said to it, and why nothing was executed if nothing was."""
        name = f"plan-{given.number}"
        # Asking for the same words again after a no is the same intent.
        intent = digest(given.action["argv"]).hex()
        self.add(given.at, "action_proposed", name, given.action, intent_id=intent)
        self.add(given.at, "approval_requested", name, given.action, approval_id=name)
        allowed = {"decision": "allow" if given.approved else "deny"}
        if given.approved:
            ends = datetime.fromtimestamp(given.lease["expires_at"], timezone.utc)
            allowed["expires_at"] = ends.isoformat()
        self.add(given.at, "approval_decision", name, approval_id=name, **allowed)
        stopped = None
        if not given.approved:
            stopped = given.at, "denied"
        elif given.revoked_at and given.burned_at is None:
            stopped = given.revoked_at, "revoked"
        elif given.burned_at and not given.did_start:
            stopped = given.finished_at, "did not start"
        elif given.burned_at is None and not given.runs:
            stopped = given.lease["expires_at"], "not used"
        if stopped:
            self.add(stopped[0], "action_blocked", name, approval_id=name, reason=stopped[1])

    def executed(self, one, given):
        """An execution, put down to a decision or to none."""
        if given is None:
            self.add(one.time, "action_executed", f"process-{one.pid}", one.action)
        else:
            name = f"plan-{given.number}"
            self.add(one.time, "action_executed", name, one.action, approval_id=name)

    def lines(self):
        """All of it in the order of time; the trail's times are whole seconds, rounded down."""
        self.events.sort(key=lambda event: event[0])
        self.add(self.events[-1][0], "session_end", None)
        return [json.dumps(event) + "\n" for _, event in self.events]


def main():
    """Reads the evidence, writes the trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("trail", "leases", "keys", "witness", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--recorder")
    parser.add_argument("--broker", required=True, type=int, help="its process id")
    parser.add_argument("--approver", required=True, action="append", type=bytes.fromhex)
    words = parser.parse_args()
    keys = keys_of(words.keys)
    records = records_of(words.trail, keys)
    decided = decisions(records, leases_of(words.leases, keys["lease"]), words.approver)
    seen = executions_of(words.witness)
    if words.recorder:
        compare(seen, executions_of(words.recorder))
    trace = Trace(records[0][2].hex())
    pairs = []
    for one in seen:
        given = attributed(one, decided, words.broker)
        if given is not None:
            given.runs += 1
        pairs.append((one, given))
    for given in decided:
        trace.decided(given)
    for one, given in pairs:
        trace.executed(one, given)
    with open(words.out, "w", encoding="utf-8") as file:
        file.writelines(trace.lines())


try:
    main()
except Refused as refused:
    sys.exit(f"the evidence does not hold: {refused}")
