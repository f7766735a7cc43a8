"""GPU nodes without GPUs, for tests and rehearsals: fake nodes (KWOK) and a simulator of NVIDIA's MIG manager."""
