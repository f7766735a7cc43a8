#!/bin/sh
# Starts Apicurio Registry with the password of its database from the file $DATABASE_LOGIN_FILE.
#
# Quarkus reads no single value from a file, and other processes can read its environment and its arguments. Therefore
# the password goes into a properties file, which is on a volume in memory and readable by this user alone.
set -eu
umask 077
# A backslash begins an escape sequence in such a file.
sed -e 's/\\/\\\\/g' -e 's/^/apicurio.datasource.password=/' "$DATABASE_LOGIN_FILE" >"$SMALLRYE_CONFIG_LOCATIONS"
exec java -XX:+ExitOnOutOfMemoryError -XX:MaxRAMPercentage=45 -XX:+UseSerialGC \
  -Djava.util.logging.manager=org.jboss.logmanager.LogManager -jar /opt/registry/quarkus-run.jar
