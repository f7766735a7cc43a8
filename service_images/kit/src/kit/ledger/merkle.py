"""The Merkle tree of RFC 6962, stored in tiles of 256 hashes in the layout of C2SP's tlog-tiles.

A tile of level 0 contains hashes of entries. A tile of level L contains the roots of 256 tiles of level L-1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

WIDTH = 256
HASH_BYTES = 32
EMPTY = hashlib.sha256(b"").digest()
Hash = bytes
ReadTile = Callable[[int, int], bytes]
"""Function that returns the concatenated hashes of a tile (level, number). A partial tile has fewer than 256."""


def leaf(entry: bytes) -> Hash:
    """Hash of an entry."""
    return hashlib.sha256(b"\0" + entry).digest()


def node(left: Hash, right: Hash) -> Hash:
    """Hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


def fold(hashes: Sequence[Hash]) -> Hash:
    """Root over subtrees of equal size. The last one may be smaller."""
    if not hashes:
        return EMPTY
    level = list(hashes)
    while len(level) > 1:
        paired = [node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        # An odd last hash is promoted unchanged: it has no sibling yet.
        level = paired + level[len(level) & ~1 :]
    return level[0]


def split(tile: bytes) -> list[Hash]:
    """Split a tile into its hashes."""
    return [tile[i : i + HASH_BYTES] for i in range(0, len(tile), HASH_BYTES)]


def append(edge: list[bytes], size: int, hashes: Sequence[Hash]) -> tuple[list[bytes], dict[tuple[int, int], bytes]]:
    """Add entries to a tree with `size` entries.

    `edge` contains the last, incomplete tile of each level. Returns the new edge and all changed tiles.
    """
    edge, changed = list(edge), dict[tuple[int, int], bytes]()
    level, coming, before = 0, list(hashes), size
    while coming:
        if level == len(edge):
            edge.append(b"")
        content = edge[level] + b"".join(coming)
        number = before // WIDTH
        finished: list[Hash] = []
        full = WIDTH * HASH_BYTES
        while len(content) >= full:
            tile, content = content[:full], content[full:]
            changed[level, number] = tile
            finished.append(fold(split(tile)))
            number += 1
        if content:
            changed[level, number] = content
        edge[level] = content
        level, coming, before = level + 1, finished, before // WIDTH
    return edge, changed


def root(edge: Sequence[bytes]) -> Hash:
    """Root of a tree, from its incomplete tiles."""
    rest: Hash | None = None
    for tile in edge:
        hashes = split(tile) + ([rest] if rest is not None else [])
        if hashes:
            rest = fold(hashes)
    return EMPTY if rest is None else rest


def _subtree(read: ReadTile, begin: int, end: int) -> Hash:
    """Root over the entries `begin` to `end`, which are one subtree."""
    count = end - begin
    if count & (count - 1) == 0 and begin % count == 0:
        level, inside = divmod(count.bit_length() - 1, 8)
        first = begin >> (8 * level)
        tile = read(level, first // WIDTH)
        offset = first % WIDTH * HASH_BYTES
        return fold(split(tile[offset : offset + (HASH_BYTES << inside)]))
    middle = begin + _left(count)
    return node(_subtree(read, begin, middle), _subtree(read, middle, end))


def _left(count: int) -> int:
    """Largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def inclusion(read: ReadTile, number: int, size: int) -> list[Hash]:
    """Inclusion proof: hashes from an entry to the root of the tree with `size` entries, nearest first."""
    proof: list[Hash] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _left(end - begin)
        if number < middle:
            proof.append(_subtree(read, middle, end))
            end = middle
        else:
            proof.append(_subtree(read, begin, middle))
            begin = middle
    return proof[::-1]


def consistency(read: ReadTile, old: int, new: int) -> list[Hash]:
    """Consistency proof that the tree with `new` entries extends that with `old` entries (RFC 6962, 2.1.2)."""

    def walk(count: int, begin: int, end: int, whole: bool) -> list[Hash]:
        if count == end - begin:
            return [] if whole else [_subtree(read, begin, end)]
        middle = begin + _left(end - begin)
        if begin + count <= middle:
            return [*walk(count, begin, middle, whole), _subtree(read, middle, end)]
        return [*walk(begin + count - middle, middle, end, False), _subtree(read, begin, middle)]

    return walk(old, 0, new, True) if 0 < old < new else []


def verify_inclusion(entry: bytes, number: int, size: int, proof: Sequence[Hash], expected: Hash) -> bool:
    """Whether the proof shows that an entry is in the tree with this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= number < size:
        return False
    position, last, found = number, size - 1, leaf(entry)
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node(sibling, found)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            found = node(found, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and found == expected


def verify_consistency(old: int, new: int, proof: Sequence[Hash], old_root: Hash, new_root: Hash) -> bool:
    """Whether the proof shows that the new tree extends the old one (RFC 9162, 2.1.4.2)."""
    if old == new:
        return not proof and old_root == new_root
    if not 0 < old < new:
        return old == 0 and not proof
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first, second = node(sibling, first), node(sibling, second)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            second = node(second, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def of(entries: Sequence[bytes]) -> Hash:
    """Root over a complete list of entries."""
    return fold([leaf(entry) for entry in entries])
