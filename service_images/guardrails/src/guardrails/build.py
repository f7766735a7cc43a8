"""Builds data at image build time that Guardrails loads at its start: `python -m guardrails.build FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from guardrails import hints
from guardrails.detectors import DETECTORS
from guardrails.scanner import expressions

if __name__ == "__main__":
    for part in expressions(DETECTORS):
        print(hints.save(part, Path(sys.argv[1])))
