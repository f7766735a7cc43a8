"""GPU nodes without GPUs: fake nodes (KWOK) and a simulator of NVIDIA's MIG manager, for tests and rehearsals."""
