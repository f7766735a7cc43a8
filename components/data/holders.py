"""Resource types that hold data. Updates must not replace or delete such resources unnoticed."""

from __future__ import annotations

from fnmatch import fnmatchcase

DATA_HOLDERS: dict[str, str] = {
    "aws:ebs/volume:Volume": "a disk",
    "aws:efs/fileSystem:FileSystem": "a file system",
    "aws:eks/cluster:Cluster": "all objects and volume claims of the cluster",
    "aws:kms/key:Key": "the only key for the data that it encrypted",
    "aws:msk/cluster:Cluster": "events",
    "aws:rds/*": "a database",
    "aws:s3/bucket*:Bucket*": "objects",
    "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition": "all objects of its kind",
    "kubernetes:apps/v1:StatefulSet": "the volumes of its pods",
    "kubernetes:core/v1:Namespace": "all objects and volume claims in it",
    "kubernetes:core/v1:PersistentVolume": "a disk",
    "kubernetes:core/v1:PersistentVolumeClaim": "a disk",
}
"""Data that is lost with a resource, by resource type (shell pattern)."""


def held_by(token: str) -> str:
    """Data that a resource of this type holds; empty if the resource can be recreated without loss."""
    return next((data for pattern, data in DATA_HOLDERS.items() if fnmatchcase(token, pattern)), "")
