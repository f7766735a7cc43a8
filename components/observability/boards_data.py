"""Dashboards of the data layer's servers, by metrics of the servers and their exporters. Pure data."""

from __future__ import annotations

from components.observability.alerts_servers import running
from components.observability.panel import Board, Panel, panel, quantile, rate, usage, volumes

FOLDER = "CogniForge: data"


def _board(part: str, title: str, description: str, *panels: Panel, keeps: bool = True) -> Board:
    """A server's board; what its pods and its volume take comes last."""
    taken = (*usage(f"{part}-[0-9]+"), *((volumes(f"data-{part}-[0-9]+"),) if keeps else ()))
    return Board(part, title, description, FOLDER, (*panels, *taken), running(part))


BOARDS: tuple[Board, ...] = (
    _board(
        "postgres",
        "PostgreSQL",
        "Whether the database is busy, has connections left, and is backed up.",
        panel(
            "Transactions per second",
            "Committed transactions of each database.",
            "ops",
            (rate("pg_stat_database_xact_commit", "datname"), "{{datname}}"),
        ),
        panel(
            "Connections",
            "Connections by state, and the limit. Many that are idle in a transaction keep locks.",
            "short",
            ("sum by (state) (pg_stat_activity_count)", "{{state}}"),
            ("max(pg_settings_max_connections)", "limit"),
        ),
        panel(
            "Size",
            "Bytes of each database, without the write-ahead log.",
            "bytes",
            ("sum by (datname) (pg_database_size_bytes)", "{{datname}}"),
        ),
        panel(
            "Write-ahead log that slots retain",
            "Log that change data capture has not read. Above the limit, events are lost.",
            "bytes",
            ("max by (slot_name) (pg_replication_slots_pg_wal_lsn_diff)", "{{slot_name}}"),
            ("max(pg_settings_max_slot_wal_keep_size_bytes)", "limit"),
        ),
        panel(
            "Hits of the buffer cache",
            "Share of blocks that were in memory. A lasting fall asks for more memory.",
            "percentunit",
            (
                f"{rate('pg_stat_database_blks_hit', 'datname')} / "
                f"({rate('pg_stat_database_blks_hit', 'datname')} + {rate('pg_stat_database_blks_read', 'datname')})",
                "{{datname}}",
            ),
        ),
        panel(
            "Age of the last archived log",
            "A restore loses at most the changes of this time.",
            "s",
            ("max(pg_stat_archiver_last_archive_age)", "age"),
        ),
        panel(
            "Failures per second",
            "Transactions that were ended for a deadlock, and files of the log that could not be archived.",
            "ops",
            (rate("pg_stat_database_deadlocks", "datname"), "deadlocks in {{datname}}"),
            (rate("pg_stat_archiver_failed_count"), "archiving"),
        ),
    ),
    _board(
        "kafka",
        "Kafka",
        "Whether events are accepted, copied and delivered fast.",
        panel(
            "Size of topics",
            "Bytes of each topic on all brokers.",
            "bytes",
            ("sum by (topic) (kafka_log_size_bytes)", "{{topic}}"),
        ),
        panel(
            "99th percentile of requests",
            "Time of the slowest hundredth of requests. Fetches wait for events, so half a second is usual for them.",
            "ms",
            ('max by (request) (kafka_request_p99_milliseconds{request=~"Produce|FetchConsumer"})', "{{request}}"),
        ),
        panel(
            "Partitions that are offline or have too few copies",
            "An offline partition takes no events. One with too few copies may lose them.",
            "short",
            ("sum(kafka_controller_offlinepartitionscount)", "offline"),
            ("sum(kafka_replica_manager_underreplicatedpartitions)", "too few copies"),
        ),
        panel(
            "Active controllers",
            "One controller decides about leaders. Any other number is a fault.",
            "short",
            ("sum(kafka_controller_activecontrollercount)", "controllers"),
        ),
    ),
    _board(
        "change-data-capture",
        "Change data capture",
        "Whether rows of the outboxes become events in time.",
        panel(
            "Events per second",
            "Changes that the connector of each service has read.",
            "ops",
            (rate("debezium_totalnumberofeventsseen", "server"), "{{server}}"),
        ),
        panel(
            "Delay",
            "Time from a change in the database to its event.",
            "ms",
            ("max by (server) (debezium_millisecondsbehindsource)", "{{server}}"),
        ),
        panel(
            "Tasks, by state",
            "A failed task publishes nothing, and the database keeps its log.",
            "short",
            ("sum by (status) (connect_task_status)", "{{status}}"),
        ),
        keeps=False,
    ),
    _board(
        "schema-registry",
        "Schema registry",
        "Whether schemas are answered fast.",
        panel(
            "95th percentile of latency",
            "Time of the slowest twentieth of requests.",
            "s",
            (quantile(0.95, "rest_requests_seconds"), "all requests"),
        ),
        keeps=False,
    ),
    _board(
        "nats",
        "NATS",
        "Whether messages pass, and how much JetStream stores.",
        panel(
            "Messages per second",
            "Messages that clients send.",
            "ops",
            (rate("gnatsd_varz_in_msgs"), "received"),
        ),
        panel(
            "JetStream storage",
            "Bytes that streams and key-value buckets take, and the limit.",
            "bytes",
            ("max(gnatsd_varz_jetstream_stats_storage)", "used"),
            ("max(gnatsd_varz_jetstream_config_max_storage)", "limit"),
        ),
        panel(
            "Stored messages",
            "Messages of each stream. A key-value bucket is a stream that begins with KV_.",
            "short",
            ("sum by (stream_name) (jetstream_stream_total_messages)", "{{stream_name}}"),
        ),
        panel(
            "Slow consumers per second",
            "Clients that were disconnected because they read too slowly.",
            "ops",
            (rate("gnatsd_varz_slow_consumers"), "disconnected"),
        ),
    ),
    _board(
        "cache",
        "Cache",
        "Whether answers are found, and fit into memory.",
        panel(
            "Hits",
            "Share of look-ups that found a value.",
            "percentunit",
            (
                f"{rate('redis_keyspace_hits_total')} / "
                f"({rate('redis_keyspace_hits_total')} + {rate('redis_keyspace_misses_total')})",
                "hits",
            ),
        ),
        panel("Memory of values", "Bytes that values take.", "bytes", ("sum(redis_memory_used_bytes)", "used")),
        panel("Keys", "Values in each database.", "short", ("sum by (db) (redis_db_keys)", "{{db}}")),
        panel(
            "Evictions and refused connections per second",
            "Values that had to make room for others, and clients beyond the limit of connections.",
            "ops",
            (rate("redis_evicted_keys_total"), "evicted values"),
            (rate("redis_rejected_connections_total"), "refused connections"),
        ),
        keeps=False,
    ),
    _board(
        "object-store",
        "Object store",
        "Whether objects are read and written without errors.",
        panel(
            "Requests per second",
            "Successful requests by action.",
            "ops",
            (rate("versitygw_success_count", "action"), "{{action}}"),
        ),
        panel(
            "Failed requests per second",
            "Requests that failed, by the status of the answer. 4xx are the clients' mistakes.",
            "ops",
            (rate("versitygw_failed_count", "status"), "{{status}}"),
        ),
        panel(
            "Read bytes per second",
            "Bytes of objects that clients have read.",
            "Bps",
            (rate("versitygw_bytes_read"), "read"),
        ),
    ),
)
"""One for each server of the data layer that has metrics."""
