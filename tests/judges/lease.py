"""Judges leases. Standard input: one JSON object a line with `name`, `key`, `context` and `lease`
(hex, but for the context). Standard output: for each what python-cwt says of the signature, and the
claims, written as `olb lease inspect` writes them."""

import json
import sys
from datetime import datetime, timezone

from statements import Refused, claims_of, opened, request_id


def shown(claims):
    """The claims in the words of `olb lease inspect`."""

    def one(name, value):
        if name.endswith("_at"):
            return datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return value.hex() if isinstance(value, bytes) else value

    fields = {name: one(name, value) for name, value in claims.items()}
    return fields | {"request_id": request_id(claims["plan"])}


def judged(case):
    """What is to be said of one lease."""
    answer = {"name": case["name"], "signature": False, "claims": None, "why": None}
    try:
        lease, key = bytes.fromhex(case["lease"]), bytes.fromhex(case["key"])
        payload = opened(lease, [key], case["context"].encode())
        answer["signature"] = True
        answer["claims"] = shown(claims_of(payload))
    except Refused as refused:
        answer["why"] = str(refused)
    return answer


for line in sys.stdin:
    print(json.dumps(judged(json.loads(line))))
