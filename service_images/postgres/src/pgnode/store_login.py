"""Prints the login for the object store as AWS' SDKs read it from a `credential_process`.

Source: AWS SDKs and Tools Reference Guide, "Process credential provider".
"""

import json
import os
import sys
from pathlib import Path

_PASSWORD = Path(os.environ.get("STORE_PASSWORD_FILE", "/var/run/secrets/service/objects"))


def main() -> int:
    """Print the login. Exit status 1 if there is no password."""
    try:
        password = _PASSWORD.read_text().strip()
    except OSError as error:
        print(f"there is no password for the object store: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"Version": 1, "AccessKeyId": os.environ["BACKUP_LOGIN"], "SecretAccessKey": password}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
