#!/bin/sh
# Runs Keycloak. The only argument is the configuration file, which holds the secrets: neither the environment nor the
# arguments of the process show one.
set -eu
# Keycloak uses a third of its memory outside the heap. JBoss Threads opens java.lang from Java 24 on.
JAVA_OPTS="-XX:+ExitOnOutOfMemoryError -XX:MaxRAMPercentage=${HEAP_PERCENT:-40} -XX:+UseSerialGC
  -XX:MaxMetaspaceSize=224m -XX:ReservedCodeCacheSize=64m -Dfile.encoding=UTF-8
  -Djdk.tls.rejectClientInitiatedRenegotiation=true"
JAVA_ADD_OPENS="--add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.util.concurrent=ALL-UNNAMED
  --add-opens=java.base/java.security=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED"
export JAVA_OPTS JAVA_ADD_OPENS
exec sh "${KEYCLOAK_HOME:-/opt/keycloak}/bin/kc.sh" "--config-file=$1" start --optimized
