"""Executes something outside of every broker, as root can: account, environment and working
directory are those of another execution.

    outside.py LIKE WORD...

LIKE is a line of a witness. Nothing else is executed on the way, as a launcher would be.
"""

import json
import subprocess
import sys

like = json.loads(sys.argv[1])
pairs = bytes.fromhex(like["environment"]).split(b"\0")[:-1]
subprocess.run(
    sys.argv[2:],
    check=True,
    stdin=subprocess.DEVNULL,
    cwd=like["directory"][0],
    env=dict(pair.split(b"=", 1) for pair in pairs),
    user=like["uid"],
    group=like["gid"],
    extra_groups=like["groups"],
)
