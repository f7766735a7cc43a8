"""Alerts and dashboard panels for the data layer, based on metrics of its servers and exporters.

Pure data. Thresholds that depend on a server's limits read the limit from a metric.
"""

from __future__ import annotations

from components.observability.alert import Alert, Panel

ALERTS: tuple[Alert, ...] = (
    Alert("PostgresDown", "pg_up == 0", "1m", "page", "PostgreSQL does not answer its exporter.", "postgres"),
    Alert(
        "PostgresConnectionsNearLimit",
        "sum(pg_stat_activity_count) / max(pg_settings_max_connections) > 0.85",
        "5m",
        "ticket",
        "More than 85 % of PostgreSQL's connections are in use: raise maxConnections, or lower poolSize.",
        "postgres",
    ),
    Alert(
        "PostgresArchivingFailing",
        "increase(pg_stat_archiver_failed_count[15m]) > 0",
        "15m",
        "page",
        "Archiving of the write-ahead log fails: later changes cannot be restored from the backup.",
        "postgres",
    ),
    Alert(
        "PostgresReplicationSlotLagging",
        "max by (slot_name) (pg_replication_slots_pg_wal_lsn_diff) > "
        "scalar(max(pg_settings_max_slot_wal_keep_size_bytes)) / 2",
        "10m",
        "page",
        "Slot {{ $labels.slot_name }} retains half of its limit of write-ahead log: above the limit, events are lost. "
        "Check change data capture.",
        "postgres",
    ),
    Alert(
        "PostgresDeadlocks",
        "sum by (datname) (increase(pg_stat_database_deadlocks[15m])) > 5",
        "0m",
        "ticket",
        "Transactions in database {{ $labels.datname }} deadlock.",
        "postgres",
    ),
    Alert(
        "PostgresChecksumFailures",
        "sum by (datname) (increase(pg_stat_database_checksum_failures[1h])) > 0",
        "0m",
        "page",
        "A page of database {{ $labels.datname }} is corrupt: replace the disk, then run `forge restore`.",
        "postgres",
    ),
    Alert(
        "KafkaPartitionsOffline",
        "sum(kafka_controller_offlinepartitionscount) > 0",
        "1m",
        "page",
        "Partitions have no leader: their events can be neither written nor read.",
        "kafka",
    ),
    Alert(
        "KafkaUnderReplicated",
        "sum(kafka_replica_manager_underreplicatedpartitions) > 0",
        "10m",
        "ticket",
        "Partitions have too few replicas in sync: a broker is unavailable or slow.",
        "kafka",
    ),
    Alert(
        "KafkaNoActiveController",
        "sum(kafka_controller_activecontrollercount) != 1",
        "2m",
        "page",
        "The number of active Kafka controllers is not 1.",
        "kafka",
    ),
    Alert(
        "ChangeDataCaptureTaskFailed",
        'sum by (connector) (connect_task_status{status="failed"}) > 0',
        "0m",
        "page",
        "Connector {{ $labels.connector }} has failed: changes are not published, and the write-ahead log grows.",
        "change-data-capture",
    ),
    Alert(
        "ChangeDataCaptureLagging",
        "max by (server) (debezium_millisecondsbehindsource) > 60000",
        "10m",
        "ticket",
        "Events of {{ $labels.server }} are more than a minute late.",
        "change-data-capture",
    ),
    Alert(
        "SchemaRegistrySlow",
        "histogram_quantile(0.95, sum by (le) (rate(rest_requests_seconds_bucket[10m]))) > 1",
        "10m",
        "ticket",
        "5 % of the requests to the schema registry take more than a second.",
        "schema-registry",
    ),
    Alert(
        "NatsSlowConsumers",
        "increase(gnatsd_varz_slow_consumers[10m]) > 0",
        "0m",
        "ticket",
        "NATS disconnected a client that reads its messages too slowly.",
        "nats",
    ),
    Alert(
        "NatsStorageNearLimit",
        "max(gnatsd_varz_jetstream_stats_storage) / max(gnatsd_varz_jetstream_config_max_storage) > 0.85",
        "10m",
        "page",
        "JetStream has less than 15 % of its volume left: raise data.nats.storage.",
        "nats",
    ),
    Alert("CacheDown", "redis_up == 0", "2m", "page", "The cache does not answer its exporter.", "cache"),
    Alert(
        "CacheEvicting",
        "increase(redis_evicted_keys_total[1h]) > 0.5 * sum(redis_db_keys)",
        "1h",
        "ticket",
        "The cache evicts half of its entries within an hour: raise data.cache.resources.memory.",
        "cache",
    ),
    Alert(
        "CacheConnectionsRefused",
        "increase(redis_rejected_connections_total[10m]) > 0",
        "0m",
        "ticket",
        "The cache refuses connections because its limit is reached.",
        "cache",
    ),
    Alert(
        "ObjectStoreErrorRateHigh",
        'sum(rate(versitygw_failed_count{status=~"5.."}[10m])) > 0.1',
        "10m",
        "page",
        "The object store answers with errors: check its log and its volume.",
        "object-store",
    ),
)
PANELS: tuple[Panel, ...] = (
    Panel(
        "PostgreSQL: transactions per second",
        "sum by (datname) (rate(pg_stat_database_xact_commit[$__rate_interval]))",
        "ops",
        "postgres",
    ),
    Panel("PostgreSQL: connections", "sum by (state) (pg_stat_activity_count)", "short", "postgres"),
    Panel("PostgreSQL: size", "sum by (datname) (pg_database_size_bytes)", "bytes", "postgres"),
    Panel(
        "PostgreSQL: write-ahead log retained by slots",
        "max by (slot_name) (pg_replication_slots_pg_wal_lsn_diff)",
        "bytes",
        "postgres",
    ),
    Panel(
        "PostgreSQL: buffer cache hit ratio",
        "sum by (datname) (rate(pg_stat_database_blks_hit[$__rate_interval])) / "
        "(sum by (datname) (rate(pg_stat_database_blks_hit[$__rate_interval])) + "
        "sum by (datname) (rate(pg_stat_database_blks_read[$__rate_interval])))",
        "percentunit",
        "postgres",
    ),
    Panel("PostgreSQL: age of the last archived log", "max(pg_stat_archiver_last_archive_age)", "s", "postgres"),
    Panel("Kafka: size of topics", "sum by (topic) (kafka_log_size_bytes)", "bytes", "kafka"),
    Panel(
        "Kafka: 99th percentile of requests",
        'max by (request) (kafka_request_p99_milliseconds{request=~"Produce|FetchConsumer"})',
        "ms",
        "kafka",
    ),
    Panel(
        "Kafka: offline and under-replicated partitions",
        "sum(kafka_replica_manager_underreplicatedpartitions) + sum(kafka_controller_offlinepartitionscount)",
        "short",
        "kafka",
    ),
    Panel(
        "Change data capture: events per second",
        "sum by (server) (rate(debezium_totalnumberofeventsseen[$__rate_interval]))",
        "ops",
        "change-data-capture",
    ),
    Panel(
        "Change data capture: delay",
        "max by (server) (debezium_millisecondsbehindsource)",
        "ms",
        "change-data-capture",
    ),
    Panel(
        "Schema registry: 95th percentile of latency",
        "histogram_quantile(0.95, sum by (le) (rate(rest_requests_seconds_bucket[$__rate_interval])))",
        "s",
        "schema-registry",
    ),
    Panel("NATS: messages per second", "sum(rate(gnatsd_varz_in_msgs[$__rate_interval]))", "ops", "nats"),
    Panel("NATS: JetStream storage", "max(gnatsd_varz_jetstream_stats_storage)", "bytes", "nats"),
    Panel("NATS: stored messages", "sum by (stream_name) (jetstream_stream_total_messages)", "short", "nats"),
    Panel(
        "Cache: hits",
        "rate(redis_keyspace_hits_total[$__rate_interval]) / (rate(redis_keyspace_hits_total"
        "[$__rate_interval]) + rate(redis_keyspace_misses_total[$__rate_interval]))",
        "percentunit",
        "cache",
    ),
    Panel("Cache: memory", "redis_memory_used_bytes", "bytes", "cache"),
    Panel("Cache: evictions per second", "rate(redis_evicted_keys_total[$__rate_interval])", "ops", "cache"),
    Panel(
        "Object store: requests per second",
        "sum by (action) (rate(versitygw_success_count[$__rate_interval]))",
        "ops",
        "object-store",
    ),
    Panel(
        "Object store: read bytes per second",
        "sum(rate(versitygw_bytes_read[$__rate_interval]))",
        "Bps",
        "object-store",
    ),
)
