-- Old finished requests are deleted: what tells how many there are, and how large.

-- Bytes of a row, roughly; the indexes count as 512.
ALTER TABLE request ADD COLUMN bytes INTEGER GENERATED ALWAYS AS (
  512 + length(plan) + coalesce(length(lease), 0) + coalesce(length(receipt), 0)
      + length(stdout_tail) + length(stderr_tail)
) VIRTUAL;

-- The finished requests of each uid; kept by the triggers below.
CREATE TABLE stored (
  requester_uid INTEGER PRIMARY KEY,
  requests      INTEGER NOT NULL,
  bytes         INTEGER NOT NULL
) STRICT;

INSERT INTO stored (requester_uid, requests, bytes)
SELECT requester_uid, count(*), sum(bytes) FROM request WHERE finished_at IS NOT NULL
GROUP BY requester_uid;

CREATE TRIGGER stored_inserted AFTER INSERT ON request WHEN NEW.finished_at IS NOT NULL BEGIN
  INSERT INTO stored (requester_uid, requests, bytes) VALUES (NEW.requester_uid, 1, NEW.bytes)
  ON CONFLICT (requester_uid) DO UPDATE SET
    requests = requests + 1, bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER stored_updated_from AFTER UPDATE ON request WHEN OLD.finished_at IS NOT NULL BEGIN
  UPDATE stored SET requests = requests - 1, bytes = bytes - OLD.bytes
  WHERE requester_uid = OLD.requester_uid;
END;

CREATE TRIGGER stored_updated_to AFTER UPDATE ON request WHEN NEW.finished_at IS NOT NULL BEGIN
  INSERT INTO stored (requester_uid, requests, bytes) VALUES (NEW.requester_uid, 1, NEW.bytes)
  ON CONFLICT (requester_uid) DO UPDATE SET
    requests = requests + 1, bytes = bytes + excluded.bytes;
END;

-- Codes of requests that were deleted: they are not given again for a while either.
CREATE TABLE deleted_code (
  created_at INTEGER NOT NULL,
  code       TEXT    NOT NULL
) STRICT;
CREATE INDEX deleted_code_by_time ON deleted_code (created_at, code);

CREATE TRIGGER stored_deleted AFTER DELETE ON request WHEN OLD.finished_at IS NOT NULL BEGIN
  UPDATE stored SET requests = requests - 1, bytes = bytes - OLD.bytes
  WHERE requester_uid = OLD.requester_uid;
  INSERT INTO deleted_code (created_at, code) VALUES (OLD.created_at, OLD.code);
END;
