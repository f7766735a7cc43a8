"""`python -m guardrails.build FOLDER`: what the image has ready, so that Guardrails need not make it at its start."""

from __future__ import annotations

import sys
from pathlib import Path

from guardrails import hints
from guardrails.detectors import DETECTORS
from guardrails.scanner import expressions

if __name__ == "__main__":
    print(hints.save(expressions(DETECTORS), Path(sys.argv[1])))
