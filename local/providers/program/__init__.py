"""What runs in another program's virtual environment, alone in its folder: Python puts that on the module path."""
