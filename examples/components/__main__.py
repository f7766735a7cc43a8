"""Every example of this folder in one program. Each module is an example by itself."""

import importlib
from pathlib import Path

for example in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    importlib.import_module(example.stem)
