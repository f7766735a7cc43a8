"""`python -m guardrails.build FOLDER`: what the image has ready, so that Guardrails need not make it at its start."""

from __future__ import annotations

import sys
from pathlib import Path

from guardrails import hints
from guardrails.detectors import DETECTORS
from guardrails.scanner import expressions

if __name__ == "__main__":
    for part in expressions(DETECTORS):
        print(hints.save(part, Path(sys.argv[1])))
