"""What was decided: an exported trail and the leases, signatures and digests checked first.

Read are the exact bytes of each line, `record` and `receipt`; what `olb audit export` says about
them beside that is not believed.
"""

import json

import cbor2

from statements import CONTEXTS, Refused, claims_of, digest, opened, require, tagged, unarmored

APPROVE, DENY, REVOKE = 1, 2, 3
BEGAN, DECISION, BURN, REFUSED, FINISHED, ENDED = range(6)
SIGNED = (DECISION, FINISHED, ENDED)
# Outcome of a run that the root half could not start.
SPAWN_FAILED = 2


class Decided:
    """One plan that somebody said yes or no to, and what the trail says became of it."""

    def __init__(self, number, at, plan, approved):
        self.number, self.at, self.approved = number, at, approved
        self.action = action_of(plan)
        self.lease = None
        self.burned_at = self.finished_at = self.revoked_at = None
        self.did_start = True
        # How many executions were put down to it.
        self.runs = 0


def text(data):
    """Any bytes as JSON's text, one to one."""
    return data.decode("latin-1")


def action_of(plan):
    """What a plan allows to be executed, in the form in which the witness describes what was."""
    path, device, inode, *_ = plan[7]
    folder, folder_device, folder_inode, *_ = plan[10]
    _, uid, gid, groups = plan[11]
    return {
        "argv": [text(word) for word in plan[6]],
        "executable": [text(path), device, inode],
        "directory": [text(folder), folder_device, folder_inode],
        "environment": {text(name): text(value) for name, value in plan[8].items()},
        "account": [uid, gid, groups],
    }


def kid_of(receipt):
    """The key id that a receipt's protected header names."""
    return cbor2.loads(cbor2.loads(receipt)[0])[4]


class Signers:
    """Who signs from where on: another key only where it is said that the one before has ended."""

    def __init__(self):
        self.last, self.ended = None, set()

    def signs(self, number, kid, kind, event):
        """Refuses a signature by `kid` of a record in which `event` happened."""
        require(kid not in self.ended, f"record {number} is signed with a key that had ended")
        is_said = kind == ENDED and event[0] == self.last
        is_next = self.last in (None, kid) or is_said
        require(is_next, f"record {number} is signed with another key than those before it")
        self.last = kid


def records_of(path, keys):
    """The records of an exported trail whose chain and signatures hold, by present and retired keys."""
    audit_keys = keys["audit"] + keys.get("audit-retired", [])
    head, records, signers = bytes(32), [], Signers()
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            entry = json.loads(line)
            record, receipt = bytes.fromhex(entry["record"]), entry["receipt"]
            require(entry["sequence"] == number, f"record {number} is not in its place")
            try:
                _, _, _, kind, event = cbor2.loads(record)
            except Exception as error:
                raise Refused(f"record {number} does not decode") from error
            require(receipt or kind not in SIGNED, f"record {number} is not signed")
            if receipt:
                payload = opened(bytes.fromhex(receipt), audit_keys, CONTEXTS["receipt"])
                is_this = cbor2.loads(payload) == [1, number, head, record]
                require(is_this, f"record {number} is not the one that was signed")
                signers.signs(number, kid_of(bytes.fromhex(receipt)), kind, event)
            if kind == ENDED:
                signers.ended.add(event[0])
            head = digest(["olbl/audit/v1", head, record])
            records.append(cbor2.loads(record))
    present = [tagged("olbl/kid/v1", key)[:8] for key in keys["audit"]]
    is_present = signers.last is None or signers.last in present
    require(is_present, "the last signature is by a key that was replaced since")
    return records


def leases_of(path, lease_keys):
    """The claims and bytes of each lease in a file, one text a line, by cti."""
    with open(path, encoding="ascii") as file:
        statements = [unarmored(line) for line in file]
    payloads = [opened(one, lease_keys, CONTEXTS["lease"]) for one in statements]
    return {claims["cti"]: claims for claims in map(claims_of, payloads)}


def check_lease(lease, plan_bytes, plan, verdict, epoch):
    """Refuses a lease that allows anything else than the plan that was approved."""
    folder, device, inode, *_ = plan[10]
    expected = {
        "plan": tagged("olbl/plan/v1", plan_bytes),
        "verdict": tagged("olbl/verdict/v1", verdict),
        "argv": digest(["olbl/argv/v1", plan[6]]),
        "environment": digest(["olbl/env/v1", plan[8]]),
        "cwd": digest(["olbl/cwd/v1", folder, device, inode]),
        "audience": plan[3],
        "requester_uid": plan[4],
        "epoch": epoch,
    }
    for name, value in expected.items():
        require(lease[name] == value, f"a lease has another {name} than the plan it was given for")


def decisions(records, leases, approver_keys):
    """Everything that was decided, in the order of the trail."""
    by_plan = {}
    for number, (_, at, epoch, kind, event) in enumerate(records, start=1):
        if kind == DECISION:
            plan_bytes, verdict, _, _, cti = event
            said = cbor2.loads(opened(verdict, approver_keys, CONTEXTS["verdict"]))
            plan, name = cbor2.loads(plan_bytes), tagged("olbl/plan/v1", plan_bytes)
            require(said[2] == name, f"record {number} has a verdict on another plan")
            known = by_plan.setdefault(name, Decided(number, at, plan, said[1] == APPROVE))
            if said[1] != APPROVE and known.approved:
                known.revoked_at = at
            elif said[1] == APPROVE:
                require(cti in leases, f"the lease that record {number} gave is not at hand")
                known.lease = leases[cti]
                check_lease(known.lease, plan_bytes, plan, verdict, epoch)
        elif kind in (BURN, FINISHED):
            known, cti = by_plan.get(event[0]), event[1]
            has_lease = known is not None and known.lease and known.lease["cti"] == cti
            require(has_lease, f"record {number} is about a lease that was not given")
            if kind == BURN:
                require(known.burned_at is None, f"record {number} burns a lease again")
                known.burned_at = at
            else:
                known.finished_at = at
                known.did_start = event[2][0] != SPAWN_FAILED
        elif kind not in (BEGAN, REFUSED, ENDED):
            raise Refused(f"record {number} is of a kind that is not known")
    return list(by_plan.values())
