#!/bin/sh
# Builds an unpacked Keycloak for `start --optimized`: `build.sh FOLDER`. The image and the tests use the same build.
set -eu
# Accounts and the administration console are not offered: the realm is code, and people use the platform's own pages.
# Client secrets at other identity providers are files, which are read at every use, and not in the database.
exec sh "$1/bin/kc.sh" build --db=postgres --health-enabled=true --metrics-enabled=true --vault=file \
    --features-disabled=account,admin,ciba,kerberos,organization
