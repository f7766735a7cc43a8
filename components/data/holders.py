"""Which resources hold data: nothing replaces or deletes them by the way."""

from __future__ import annotations

from fnmatch import fnmatchcase

DATA_HOLDERS: dict[str, str] = {
    "aws:ebs/volume:Volume": "a disk",
    "aws:efs/fileSystem:FileSystem": "a file system",
    "aws:eks/cluster:Cluster": "every object and volume claim of the cluster",
    "aws:kms/key:Key": "the only key to what it encrypted",
    "aws:msk/cluster:Cluster": "events",
    "aws:rds/*": "a database",
    "aws:s3/bucket*:Bucket*": "objects",
    "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition": "every object of its kind",
    "kubernetes:apps/v1:StatefulSet": "the volumes of its pods",
    "kubernetes:core/v1:Namespace": "every object and volume claim in it",
    "kubernetes:core/v1:PersistentVolume": "a disk",
    "kubernetes:core/v1:PersistentVolumeClaim": "a disk",
}
"""Type (shell pattern) and what is lost with the resource."""


def held_by(token: str) -> str:
    """What a resource of this type holds; empty: nothing that cannot be made again."""
    return next((data for pattern, data in DATA_HOLDERS.items() if fnmatchcase(token, pattern)), "")
