"""The SQL. What is folded and counted, the database folds and counts: a step's rows never leave it."""

from __future__ import annotations

from typing import Final

from auraconnect_exporter.request_log.counts import BOUNDS, MAX_ERROR_TYPES, OTHER

MOST_GROUPS: Final = 2000
"""Paths of a step that are told apart, those that have a name first; the rest is nobody's."""

LONGEST: Final = 3_600_000
"""Milliseconds that a request can have taken; what says more counts as so many."""

LONGEST_HANDLER: Final = 100

GLANCE: Final = """
SELECT round(extract(epoch FROM statement_timestamp()) * 1000000)::bigint,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       system_identifier::text || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())::text,
       to_regclass(%(table)s) IS NOT NULL,
       EXISTS (
           SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
           WHERE indrelid = to_regclass(%(table)s) AND attname = 'created_at' AND indisvalid AND indpred IS NULL
       ),
       (
           SELECT pg_relation_size(oid)
                  * CASE WHEN relpages > 0 AND reltuples >= 0 THEN reltuples / relpages / 8192 ELSE 0.005 END
           FROM pg_class WHERE oid = to_regclass(%(table)s)
       )::float8
FROM pg_control_system()
"""
"""The clock, the snapshot and whose it is; whether there is the table, an index that begins with ``created_at``, and
about how many rows: of a table that was never analyzed, as many as fit into its size at 200 bytes each."""

PLAN: Final = """
SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_seqscan = off;
"""
"""One process, no compiler, and the index: the planner does not know how many rows the last minutes have had."""

# A segment of a path is an id if it is a number, or has three digits, or a digit and a capital letter, or a character
# that no route has (so what is kept is plain text). Each slash is doubled meanwhile, so that neighbours don't share
# one: a pattern that looks ahead instead costs several times as much.
_IDS: Final = "/(?:[0-9]+|[^/]*(?:[0-9][^/]*[0-9][^/]*[0-9]|[0-9][^/]*[A-Z]|[A-Z][^/]*[0-9]|[^]/A-Za-z0-9._~-])[^/]*)/"
_FOLDED: Final = f"""
coalesce(nullif(rtrim(replace(regexp_replace(
    '//' || replace(ltrim(split_part(left(endpoint, 300), '?', 1), '/'), '/', '//') || '/',
    '{_IDS}', '/{{id}}/', 'g'), '//', '/'), '/'), ''), '/')
"""

_METHODS: Final = "'GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'CONNECT'"

# width_bucket() counts the bounds that are not above a value, and a bucket holds its bound: so all change their signs.
_NEGATIVE_BOUNDS: Final = ", ".join(str(-1000 * bound) for bound in reversed(BOUNDS))
_BUCKET: Final = f"{len(BOUNDS)} - width_bucket(-milliseconds, ARRAY[{_NEGATIVE_BOUNDS}]::float8[])"

REQUESTS: Final = f"""
WITH new AS MATERIALIZED (
    SELECT endpoint, upper(method) AS method, status_code, response_time_ms::float8 AS taken,
           created_at, created_at < %(late)s AS late, xmin AS transaction
    FROM performance_metrics AS metric
    WHERE created_at >= %(since)s AND (%(until)s::timestamp IS NULL OR created_at < %(until)s)
      AND (%(horizon)s::xid IS NULL OR age(xmin) <= age(%(horizon)s::xid))
      AND NOT EXISTS (SELECT FROM unnest(%(seen)s::xid[]) AS seen WHERE seen = metric.xmin)
), folded AS (
    SELECT left({_FOLDED}, {LONGEST_HANDLER}) AS handler,
           CASE WHEN method IN ({_METHODS}) THEN method ELSE '{OTHER}' END AS method,
           CASE WHEN status_code BETWEEN 100 AND 599 THEN status_code::text ELSE '{OTHER}' END AS status,
           CASE WHEN taken >= 0 AND taken <> 'NaN' THEN least(taken, {LONGEST}) END AS milliseconds,
           created_at
    FROM new WHERE NOT late
), grouped AS (
    SELECT handler, method, status, {_BUCKET} AS bucket,
           count(*) AS rows, coalesce(sum(milliseconds), 0) / 1000 AS seconds, max(created_at) AS newest
    FROM folded GROUP BY 1, 2, 3, 4
), named AS (
    SELECT handler FROM grouped GROUP BY 1
    ORDER BY handler = ANY (%(handlers)s::text[]) DESC, sum(rows) DESC, handler LIMIT {MOST_GROUPS}
)
SELECT CASE WHEN named.handler IS NULL THEN '' ELSE grouped.handler END, method, status, bucket::int, sum(rows)::bigint,
       sum(seconds)::float8, round(extract(epoch FROM least(max(newest), %(now)s)) * 1000000)::bigint, NULL::bigint
FROM grouped LEFT JOIN named USING (handler) GROUP BY 1, 2, 3, 4
UNION ALL
SELECT NULL, NULL, NULL, NULL, count(*), NULL, NULL, NULL FROM new WHERE late
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL,
       round(extract(epoch FROM least(max(created_at), '9999-01-01')) * 1000000)::bigint, transaction::text::bigint
FROM new WHERE age(transaction) <= age(%(oldest_open)s::xid) GROUP BY transaction
"""  # noqa: S608  # made of constants
"""The new rows: groups that are alike, how many came too late, and the transactions that more may come after."""

WATCH: Final = """
SELECT count(*) FILTER (WHERE created_at >= %(since_before)s AND created_at < %(until_before)s),
       count(*) FILTER (WHERE created_at >= %(since_now)s AND created_at < %(until_now)s)
FROM performance_metrics WHERE created_at >= %(since)s AND created_at < %(until)s
"""
"""How many rows there are in two ranges of time."""

ERRORS: Final = f"""
WITH counted AS (
    SELECT floor(extract(epoch FROM created_at))::bigint AS second,
           CASE WHEN error_type ~ '^[A-Za-z0-9_.:-]{{1,100}}$' THEN error_type ELSE '' END AS error_type,
           count(*) AS rows
    FROM error_logs WHERE created_at >= %(since)s AND created_at < %(now)s GROUP BY 1, 2
), named AS (
    SELECT error_type FROM counted GROUP BY 1
    ORDER BY error_type = ANY (%(types)s::text[]) DESC, sum(rows) DESC, error_type LIMIT {2 * MAX_ERROR_TYPES}
)
SELECT second, CASE WHEN named.error_type IS NULL THEN '' ELSE counted.error_type END, sum(rows)::bigint
FROM counted LEFT JOIN named USING (error_type) GROUP BY 1, 2
"""  # noqa: S608  # made of constants
"""Errors by second and type."""
