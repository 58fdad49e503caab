-- One row per request. Times are seconds since the Unix epoch.
CREATE TABLE request (
  -- In the order in which requests were made.
  number           INTEGER PRIMARY KEY,
  -- Digest of the plan; its first 16 bytes are the request's id.
  digest           BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
  code             TEXT    NOT NULL,
  state            TEXT    NOT NULL,
  requester_uid    INTEGER NOT NULL,
  plan             BLOB    NOT NULL,
  match_key        BLOB    NOT NULL CHECK (length(match_key) = 32),
  cool_off_key     BLOB    NOT NULL CHECK (length(cool_off_key) = 32),
  created_at       INTEGER NOT NULL,
  expires_at       INTEGER NOT NULL,
  decided_at       INTEGER,
  decided_by       TEXT,
  reason           TEXT,
  lease            BLOB,
  lease_expires_at INTEGER,
  epoch            BLOB    CHECK (length(epoch) = 16),
  burned_at        INTEGER,
  -- Not null exactly in a final state.
  finished_at      INTEGER,
  -- How the run ended: kind (0 exited, 1 killed, 2 spawn failed, 3 unknown) and its number.
  outcome_kind     INTEGER,
  outcome_value    INTEGER,
  receipt          BLOB,
  stdout_tail      BLOB    NOT NULL,
  stderr_tail      BLOB    NOT NULL
) STRICT;

-- Each index ends with the number, which so gives the order.
CREATE INDEX request_by_code ON request (code);
CREATE INDEX request_by_time ON request (created_at, code);
CREATE INDEX request_by_uid ON request (requester_uid);
CREATE INDEX request_open ON request (requester_uid) WHERE finished_at IS NULL;
CREATE INDEX request_finished ON request (finished_at) WHERE finished_at IS NOT NULL;

-- Bytes for standard input, kept until the request is over.
CREATE TABLE stdin_blob (
  plan  BLOB NOT NULL UNIQUE CHECK (length(plan) = 32),
  bytes BLOB NOT NULL
) STRICT;
