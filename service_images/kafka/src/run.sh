#!/bin/sh
# Runs a broker (`broker`) or a Connect worker (`connect`) from the configuration in the folder $CONFIG;
# `zone FILE` writes down for a broker which zone it is in.
set -eu
[ "$1" != zone ] || exec python3 /opt/kafka/bin/zone.py "$2"
agent=$(echo /opt/kafka/libs/jmx_prometheus_javaagent-*.jar)
# From here on a star is a star: Java itself reads the class path's.
set -f
java="java -XX:+ExitOnOutOfMemoryError -XX:MaxRAMPercentage=${HEAP_PERCENT:-50} -XX:+UseSerialGC
  -javaagent:$agent=9404:$CONFIG/metrics.yaml -Dlog4j2.configurationFile=$CONFIG/log4j2.yaml
  -Dorg.apache.kafka.automatic.config.providers=env,dir -cp /opt/kafka/libs/*"
# The pod's number in its StatefulSet is the node's id.
NODE_ID=${HOSTNAME##*-}
RACK=$(cat /tmp/zone 2>/dev/null || true)
RACK=${RACK:-default}
export NODE_ID RACK
case "$1" in
broker)
    if [ ! -f /data/log/meta.properties ]; then
        java -cp "/opt/kafka/libs/*" kafka.tools.StorageTool format --cluster-id "$CLUSTER_ID" \
            --config "$CONFIG/broker.properties" --ignore-formatted
    fi
    exec $java kafka.Kafka "$CONFIG/broker.properties"
    ;;
connect)
    exec $java "-Djava.security.auth.login.config=$CONFIG/jaas.conf" org.apache.kafka.connect.cli.ConnectDistributed "$CONFIG/connect.properties"
    ;;
*)
    echo "unknown role \"$1\"; broker, connect or zone" >&2
    exit 2
    ;;
esac
