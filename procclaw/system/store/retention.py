"""Retention: what of the history goes when, in small steps, and what stays however old it is."""

from datetime import datetime

from procclaw.model.clock import after, to_microseconds
from procclaw.system.store.database import Database

KEY_HOURS = 24
"""How long an idempotency key names one request."""

KEPT_CYCLES = 1_000
KEPT_CYCLE_BYTES = 16 * 1024 * 1024
"""Of recorded cycles, and once more of the configurations they were decided by. A cycle about one job takes half
a KB to one, one that has to do with 500 running jobs 45 KB, and a configuration of 500 jobs 30 KB.
"""


def purge(database: Database, keep_runs: int, before: datetime, now: datetime, limit: int) -> int:
    """Remove up to `limit` rows of each kind, within the caller's transaction; how many went of the kind with most."""
    oldest = to_microseconds(before)
    keys_until = to_microseconds(after(now, -KEY_HOURS * 3600))
    ranked = (
        "SELECT id, state, finished_at, row_number() OVER (PARTITION BY job_id ORDER BY rowid DESC) n, "
        "row_number() OVER (PARTITION BY job_id, state ORDER BY finished_at DESC, rowid DESC) alike "
        # Of jobs that have neither too many nor an old one none can go, and they need not be put in order.
        "FROM runs WHERE finished_at IS NOT NULL AND job_id IN (SELECT job_id FROM runs WHERE finished_at IS NOT NULL "
        "GROUP BY job_id HAVING count(*) > ? UNION SELECT job_id FROM runs WHERE finished_at < ?)"
    )
    most = max(keep_runs, 1)
    deletions: tuple[tuple[str, tuple[object, ...]], ...] = (
        (
            f"DELETE FROM runs WHERE id IN (SELECT id FROM ({ranked}) "
            "WHERE n > 1 AND (n > ? OR finished_at < ?) AND NOT (alike = 1 AND state = 'succeeded') AND "
            # A workflow that goes on asks how its steps ended; a dead letter keeps the run it stands for.
            "id NOT IN (SELECT r.id FROM runs r JOIN workflow_runs w ON w.id = r.workflow_run "
            "WHERE w.finished_at IS NULL) AND id NOT IN (SELECT run_id FROM dead_letters) LIMIT ?)",
            (most, oldest, most, oldest, limit),
        ),
        (
            "DELETE FROM slots WHERE (job_id, first_due_at) IN (SELECT s.job_id, s.first_due_at FROM slots s "
            "LEFT JOIN cursors c ON c.job_id = s.job_id "
            "WHERE s.noticed_at < ? AND (c.job_id IS NULL OR s.last_due_at < c.judged_until) "
            # A job's newest row stays: it is what tells, however late, that a one-off time has been dealt with.
            "AND s.first_due_at < (SELECT max(first_due_at) FROM slots n WHERE n.job_id = s.job_id) LIMIT ?)",
            (oldest, limit),
        ),
        ("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? LIMIT ?)", (oldest, limit)),
        (
            "DELETE FROM intents WHERE id IN (SELECT id FROM intents WHERE resolved_at < ? "
            "AND (key IS NULL OR requested_at < ?) "
            "AND id NOT IN (SELECT request FROM runs WHERE request IS NOT NULL) LIMIT ?)",
            (oldest, keys_until, limit),
        ),
        ("DELETE FROM alerts WHERE key IN (SELECT key FROM alerts WHERE done_at < ? LIMIT ?)", (oldest, limit)),
        (
            "DELETE FROM workflow_runs WHERE id IN (SELECT id FROM workflow_runs WHERE finished_at < ? LIMIT ?)",
            (oldest, limit),
        ),
    )
    _purge_cycles(database)
    return max(database.execute(sql, parameters).rowcount for sql, parameters in deletions)


def _purge_cycles(database: Database) -> None:
    """Keep those within the limits that can be replayed; how many there are is seen to where they are written."""
    for table, column in (("cycles", "body"), ("past_specs", "document")):
        so_far = f"SELECT id, sum(length({column})) OVER (ORDER BY id DESC) AS bytes FROM {table}"
        database.execute(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM ({so_far}) WHERE bytes > ?)", (KEPT_CYCLE_BYTES,)
        )
    database.execute("DELETE FROM past_specs WHERE hash NOT IN (SELECT spec_hash FROM cycles)")
    database.execute(
        "DELETE FROM cycles WHERE spec_hash NOT IN (SELECT hash FROM specs UNION ALL SELECT hash FROM past_specs)"
    )


def thin_attempts(database: Database, run_id: str, keep: int) -> None:
    database.execute(
        "DELETE FROM attempts WHERE run_id = ? AND ended_at IS NOT NULL AND number <= "
        "(SELECT max(number) FROM attempts WHERE run_id = ?) - ?",
        (run_id, run_id, keep),
    )
