"""Alerts for the data layer, based on metrics of its servers and exporters.

Pure data. Thresholds that depend on a server's limits read the limit from a metric.
"""

from __future__ import annotations

from components.observability.alert import Alert, Runbook

ALERTS: tuple[Alert, ...] = (
    Alert(
        "PostgresDown",
        "pg_up == 0",
        "1m",
        "page",
        "PostgreSQL does not answer its exporter.",
        "postgres",
        Runbook(
            "The server is stopped, restarts, or has no free connection for its exporter.",
            (
                "forge status",
                "forge logs postgres",
                "kubectl --namespace $namespace describe pod postgres-0",
            ),
            "If its volume is full, raise `data.postgres.storage`. If the data are damaged, run `forge restore`.",
        ),
    ),
    Alert(
        "PostgresConnectionsNearLimit",
        "sum(pg_stat_activity_count) / max(pg_settings_max_connections) > 0.85",
        "5m",
        "ticket",
        "More than 85 % of PostgreSQL's connections are in use: raise maxConnections, or lower poolSize.",
        "postgres",
        Runbook(
            "More replicas of services run than connections were planned for, or a program of yours keeps "
            "connections open.",
            (
                "forge status",
                "forge logs postgres",
            ),
            "Raise `data.postgres.maxConnections` with its memory, or lower `poolSize` of the services.",
        ),
    ),
    Alert(
        "PostgresArchivingFailing",
        "increase(pg_stat_archiver_failed_count[15m]) > 0",
        "15m",
        "page",
        "Archiving of the write-ahead log fails: later changes cannot be restored from the backup.",
        "postgres",
        Runbook(
            "The object store for backups is away, full, or refuses the login.",
            (
                "forge logs postgres",
                "forge logs object-store",
            ),
            "Bring the object store back. The server keeps the log until it is archived, so watch its volume.",
        ),
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
        Runbook(
            "Change data capture is stopped or does not keep up.",
            (
                "forge status",
                "forge logs change-data-capture",
            ),
            "Restart its pod. If a task fails again and again, its log names the record.",
        ),
    ),
    Alert(
        "PostgresDeadlocks",
        "sum by (datname) (increase(pg_stat_database_deadlocks[15m])) > 5",
        "0m",
        "ticket",
        "Transactions in database {{ $labels.datname }} deadlock.",
        "postgres",
        Runbook(
            "Two transactions lock the same rows in a different order.",
            ("forge logs postgres",),
            "The log has both statements. A transaction that was ended is repeated by the bundled services; repair "
            "programs of your own.",
        ),
    ),
    Alert(
        "PostgresChecksumFailures",
        "sum by (datname) (increase(pg_stat_database_checksum_failures[1h])) > 0",
        "0m",
        "page",
        "A page of database {{ $labels.datname }} is corrupt: replace the disk, then run `forge restore`.",
        "postgres",
        Runbook(
            "The disk or the memory of the node changes data.",
            (
                "forge logs postgres",
                "kubectl get nodes",
            ),
            "Replace the node or its disk, then run `forge restore`. Do not delete the volume before.",
        ),
    ),
    Alert(
        "KafkaPartitionsOffline",
        "sum(kafka_controller_offlinepartitionscount) > 0",
        "1m",
        "page",
        "Partitions have no leader: their events can be neither written nor read.",
        "kafka",
        Runbook(
            "All brokers that hold the partitions are down.",
            (
                "forge status",
                "forge logs kafka",
            ),
            "Bring the brokers back. If a volume is full, raise `data.kafka.storage`.",
        ),
    ),
    Alert(
        "KafkaUnderReplicated",
        "sum(kafka_replica_manager_underreplicatedpartitions) > 0",
        "10m",
        "ticket",
        "Partitions have too few replicas in sync: a broker is unavailable or slow.",
        "kafka",
        Runbook(
            "A broker is down, restarts, or its disk is slow.",
            (
                "forge status",
                "forge logs kafka",
                "kubectl --namespace $namespace get pods",
            ),
            "Bring the broker back. Do not restart another one before: events would have no copy.",
        ),
    ),
    Alert(
        "KafkaNoActiveController",
        "sum(kafka_controller_activecontrollercount) != 1",
        "2m",
        "page",
        "The number of active Kafka controllers is not 1.",
        "kafka",
        Runbook(
            "The controllers have no quorum, or a network policy separates them.",
            (
                "forge status",
                "forge logs kafka",
            ),
            "Bring the controllers back. Until then, topics and leaders cannot change.",
        ),
    ),
    Alert(
        "ChangeDataCaptureTaskFailed",
        'sum by (connector) (connect_task_status{status="failed"}) > 0',
        "0m",
        "page",
        "Connector {{ $labels.connector }} has failed: changes are not published, and the write-ahead log grows.",
        "change-data-capture",
        Runbook(
            "The connector cannot log in to PostgreSQL or write to Kafka, or its slot was removed.",
            (
                "forge logs change-data-capture",
                "forge logs postgres",
            ),
            "Remove the cause. The liveness probe restarts the worker, which continues after the last written event.",
        ),
    ),
    Alert(
        "ChangeDataCaptureLagging",
        "max by (server) (debezium_millisecondsbehindsource) > 60000",
        "10m",
        "ticket",
        "Events of {{ $labels.server }} are more than a minute late.",
        "change-data-capture",
        Runbook(
            "A large transaction is being read, or Kafka is slow.",
            (
                "forge logs change-data-capture",
                "forge logs kafka",
            ),
            "Wait for a large transaction. Otherwise, raise `data.changeDataCapture.resources`.",
        ),
    ),
    Alert(
        "SchemaRegistrySlow",
        "histogram_quantile(0.95, sum by (le) (rate(rest_requests_seconds_bucket[10m]))) > 1",
        "10m",
        "ticket",
        "5 % of the requests to the schema registry take more than a second.",
        "schema-registry",
        Runbook(
            "The registry lacks CPU, or PostgreSQL, where it keeps schemas, is slow.",
            (
                "forge status",
                "forge logs schema-registry",
            ),
            "Raise `data.schemaRegistry.resources`. Services keep the schemas that they have read.",
        ),
    ),
    Alert(
        "NatsSlowConsumers",
        "increase(gnatsd_varz_slow_consumers[10m]) > 0",
        "0m",
        "ticket",
        "NATS disconnected a client that reads its messages too slowly.",
        "nats",
        Runbook(
            "A client does not read fast enough: it lacks CPU, or hangs.",
            (
                "forge logs nats",
                "forge status",
            ),
            "The log names the client. Bundled services reconnect and read what they missed.",
        ),
    ),
    Alert(
        "NatsStorageNearLimit",
        "max(gnatsd_varz_jetstream_stats_storage) / max(gnatsd_varz_jetstream_config_max_storage) > 0.85",
        "10m",
        "page",
        "JetStream has less than 15 % of its volume left: raise data.nats.storage.",
        "nats",
        Runbook(
            "A stream keeps more than was planned.",
            (
                "forge logs nats",
                "kubectl --namespace $namespace get persistentvolumeclaims",
            ),
            "Raise `data.nats.storage` and run `forge up`.",
        ),
    ),
    Alert(
        "CacheDown",
        "redis_up == 0",
        "2m",
        "page",
        "The cache does not answer its exporter.",
        "cache",
        Runbook(
            "The server is stopped, restarts, or was killed for its memory.",
            (
                "forge status",
                "forge logs cache",
            ),
            "Services answer without the cache, more slowly. After `OOMKilled`, raise `data.cache.resources.memory`.",
        ),
    ),
    Alert(
        "CacheEvicting",
        "increase(redis_evicted_keys_total[1h]) > 0.5 * sum(redis_db_keys)",
        "1h",
        "ticket",
        "The cache evicts half of its entries within an hour: raise data.cache.resources.memory.",
        "cache",
        Runbook(
            "The entries do not fit into the cache's memory.",
            (
                "forge logs cache",
                "forge status",
            ),
            "Raise `data.cache.resources.memory`, or shorten the time for which routes keep answers.",
        ),
    ),
    Alert(
        "CacheConnectionsRefused",
        "increase(redis_rejected_connections_total[10m]) > 0",
        "0m",
        "ticket",
        "The cache refuses connections because its limit is reached.",
        "cache",
        Runbook(
            "More clients are connected than the cache accepts.",
            (
                "forge logs cache",
                "forge status",
            ),
            "Find the program that opens connections; bundled services use a small pool each.",
        ),
    ),
    Alert(
        "ObjectStoreErrorRateHigh",
        'sum(rate(versitygw_failed_count{status=~"5.."}[10m])) > 0.1',
        "10m",
        "page",
        "The object store answers with errors: check its log and its volume.",
        "object-store",
        Runbook(
            "Its volume is full, or its files cannot be read.",
            (
                "forge logs object-store",
                "kubectl --namespace $namespace get persistentvolumeclaims",
            ),
            "Raise `data.objectStore.storage` and run `forge up`.",
        ),
    ),
)
