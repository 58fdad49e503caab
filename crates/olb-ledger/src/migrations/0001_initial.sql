-- One row: what the last process that opened the ledger knew of itself.
CREATE TABLE state (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    epoch     BLOB    NOT NULL CHECK (length(epoch) = 16),
    boot_id   BLOB    NOT NULL CHECK (length(boot_id) = 16),
    lease_kid BLOB    NOT NULL CHECK (length(lease_kid) = 8),
    -- Burns and closings are numbered from here on at least: see the burn counter.
    floor     INTEGER NOT NULL CHECK (floor >= 0)
) STRICT;

-- The audit trail. A receipt holds its record, so only one of the two is stored.
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY,
    head     BLOB NOT NULL CHECK (length(head) = 32),
    record   BLOB,
    receipt  BLOB,
    CHECK ((record IS NULL) <> (receipt IS NULL))
) STRICT;

-- The positive list: a lease that has no row here does not exist. One per plan and per verdict.
CREATE TABLE issued (
    plan             BLOB    NOT NULL PRIMARY KEY CHECK (length(plan) = 32),
    verdict          BLOB    NOT NULL UNIQUE CHECK (length(verdict) = 32),
    cti              BLOB    NOT NULL UNIQUE CHECK (length(cti) = 16),
    digest           BLOB    NOT NULL CHECK (length(digest) = 32),
    lease            BLOB    NOT NULL,
    kid              BLOB    NOT NULL CHECK (length(kid) = 8),
    approver_uid     INTEGER NOT NULL,
    requester_uid    INTEGER NOT NULL,
    issued_at        INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    deadline_boot_ms INTEGER NOT NULL,
    epoch            BLOB    NOT NULL CHECK (length(epoch) = 16),
    decided          INTEGER NOT NULL REFERENCES records (sequence)
) STRICT;

CREATE INDEX issued_by_key ON issued (kid, issued_at);

-- Denied or revoked, for ever. Numbered together with the burns.
CREATE TABLE closed (
    number  INTEGER PRIMARY KEY,
    plan    BLOB    NOT NULL UNIQUE CHECK (length(plan) = 32),
    kind    INTEGER NOT NULL CHECK (kind IN (2, 3)),
    decided INTEGER NOT NULL REFERENCES records (sequence)
) STRICT;

CREATE TABLE burned (
    number INTEGER PRIMARY KEY,
    cti    BLOB    NOT NULL UNIQUE REFERENCES issued (cti),
    at     INTEGER NOT NULL
) STRICT;

CREATE TABLE outcomes (
    number      INTEGER PRIMARY KEY REFERENCES burned (number),
    finished    INTEGER NOT NULL REFERENCES records (sequence),
    stdout_tail BLOB    NOT NULL,
    stderr_tail BLOB    NOT NULL
) STRICT;

CREATE TABLE refusals (
    cti   BLOB    NOT NULL PRIMARY KEY CHECK (length(cti) = 16),
    count INTEGER NOT NULL CHECK (count > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE revoked_keys (
    kid BLOB    NOT NULL PRIMARY KEY CHECK (length(kid) = 8),
    at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
