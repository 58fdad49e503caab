"""The broker's signed statements, read with other people's libraries and from SPEC.md alone.

Signatures are checked by python-cwt, CBOR is read and written by cbor2. Nothing here comes from the
code that it judges.
"""

import base64
import hashlib

import cbor2
from cwt import COSE, Claims, COSEKey

ARMOR = "olbl1_"
CONTEXTS = {role: f"olbl/{role}/v1".encode() for role in ("verdict", "lease", "receipt")}
# The claim that holds the grant; python-cwt wants private claims declared.
GRANT = -65537


class Refused(Exception):
    """A statement or a piece of evidence does not hold; the text says which and why."""


def tagged(domain, data):
    """T(d, b) of SPEC.md section 2."""
    return hashlib.sha256(domain.encode() + b"\0" + data).digest()


def digest(item):
    """SHA-256 over deterministic CBOR."""
    return hashlib.sha256(cbor2.dumps(item, canonical=True)).digest()


def public_key(raw):
    """An Ed25519 key for algorithm -19 and nothing else, with the kid of SPEC.md section 4."""
    kid = tagged("olbl/kid/v1", raw)[:8]
    return COSEKey.new({1: 1, 2: kid, 3: -19, 4: [2], -1: 6, -2: raw})


def keys_of(path):
    """The lines of keys.pub, by role."""
    keys = {"audit": [], "lease": []}
    with open(path, encoding="ascii") as file:
        for line in file:
            role, digits = line.split()
            keys.setdefault(role, []).append(bytes.fromhex(digits))
    return keys


def deterministic(data):
    """The one item that `data` is, in the one encoding that it has."""
    item = cbor2.loads(data)
    if cbor2.dumps(item, canonical=True) != data:
        raise Refused("not deterministic CBOR")
    return item


def opened(statement, keys, context):
    """The payload of a COSE_Sign1 whose signature by one of `keys` holds in `context`."""
    # python-cwt tells statements apart by their tag, and ours have none: 18 is COSE_Sign1's.
    tag = b"\xd2"
    try:
        # The library takes what follows the item for nothing; it is for us to refuse it.
        deterministic(statement)
        cose = COSE.new(verify_kid=True)
        return cose.decode(tag + statement, [public_key(key) for key in keys], external_aad=context)
    except Exception as error:
        # Whatever a library raises on bytes of others is its way to say no.
        raise Refused(f"{type(error).__name__}: {error}") from error


def unarmored(text):
    """The bytes of a lease's text."""
    text = text.strip()
    if not text.startswith(ARMOR):
        raise Refused("not the text of a lease")
    body = text[len(ARMOR) :]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def require(holds, why):
    """Refuses where something does not hold."""
    if not holds:
        raise Refused(why)


def claims_of(payload):
    """The claims of a lease: a CWT in python-cwt's eyes, with the grant of SPEC.md section 8."""
    try:
        claims = deterministic(payload)
        Claims.new(claims, private_claim_names={"grant": GRANT})
        grant = claims[GRANT]
        require(set(claims) == {3, 4, 6, 7, GRANT}, "other claims than a lease has")
        require(set(grant) == set(range(8)) and grant[0] == 1, "another grant than a lease has")
        require(all(type(claims[at]) is int for at in (4, 6)), "a time that is no integer")
        require(0x10000 <= claims[6] < claims[4] < 1 << 32, "times that cannot be")
        sizes = {1: 32, 2: 4, 3: 32, 4: 32, 5: 32, 6: 32, 7: 16}
        sized = all(isinstance(grant[at], bytes) and len(grant[at]) == sizes[at] for at in sizes)
        require(sized and len(claims[7]) == 16, "a field of another size")
        audience = base64.urlsafe_b64decode(claims[3] + "=")
        text = base64.urlsafe_b64encode(audience).decode().rstrip("=")
        require(text == claims[3] and len(audience) == 32, "an audience in another form")
        names = ("argv", "requester_uid", "environment", "cwd", "plan", "verdict", "epoch")
        fields = {name: grant[at] for at, name in enumerate(names, start=1)}
        fields["requester_uid"] = int.from_bytes(grant[2], "big")
        require(fields["requester_uid"] != (1 << 32) - 1, "the uid that nobody has")
        times = {"expires_at": claims[4], "issued_at": claims[6]}
        return {"audience": audience, "cti": claims[7], **times, **fields}
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


def request_id(plan):
    """The id of the request whose plan has the digest `plan`."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    number = int.from_bytes(plan[:16], "big")
    return "req_" + "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))
