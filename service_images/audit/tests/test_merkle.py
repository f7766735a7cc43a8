"""The Merkle tree, compared with a second implementation of RFC 6962's definition."""

from __future__ import annotations

import hashlib

from audit import tiles
from hypothesis import example, given
from hypothesis import strategies as st
from kit.ledger import merkle

SIZES = st.integers(0, 1500)


def reference(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, implemented literally."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\1" + reference(entries[:k]) + reference(entries[k:])).digest()


def entries(count: int) -> list[bytes]:
    return [str(n).encode() for n in range(count)]


class Tree:
    """A tree as in the ledger, grown in batches."""

    def __init__(self, *batches: int) -> None:
        self.edge: list[bytes] = []
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.size = 0
        for count in batches:
            hashes = [merkle.leaf(e) for e in entries(self.size + count)[self.size :]]
            self.edge, changed = merkle.append(self.edge, self.size, hashes)
            self.tiles |= changed
            self.size += count

    def read(self, level: int, number: int) -> bytes:
        return self.tiles[level, number]


@given(SIZES)
def test_the_root_is_that_of_the_definition(size: int) -> None:
    assert merkle.of(entries(size)) == reference(entries(size))


@given(st.lists(st.integers(1, 700), max_size=4))
def test_batches_lead_to_the_same_root_as_all_at_once(batches: list[int]) -> None:
    tree = Tree(*batches)
    assert merkle.root(tree.edge) == reference(entries(sum(batches)))


@example(256, 255).via("a whole tile")
@example(257, 256).via("one more than a tile")
@example(65_537, 65_536).via("one more than a tile of tiles")
@given(st.integers(1, 1500), st.integers(0, 1499))
def test_an_entry_is_proven_to_be_in_the_log(size: int, number: int) -> None:
    number %= size
    tree = Tree(size)
    proof = merkle.inclusion(tree.read, number, size)
    root = merkle.root(tree.edge)
    assert merkle.verify_inclusion(str(number).encode(), number, size, proof, root)
    assert not merkle.verify_inclusion(b"another", number, size, proof, root)
    if size > 1:
        assert not merkle.verify_inclusion(str(number).encode(), (number + 1) % size, size, proof, root)


@given(st.integers(1, 1200), st.integers(0, 600))
def test_a_later_log_is_proven_to_begin_with_an_earlier_one(old: int, more: int) -> None:
    tree = Tree(old, more) if more else Tree(old)
    proof = merkle.consistency(tree.read, old, old + more)
    first, second = reference(entries(old)), merkle.root(tree.edge)
    assert merkle.verify_consistency(old, old + more, proof, first, second)
    if more:
        assert not merkle.verify_consistency(old, old + more, proof, merkle.leaf(b"other"), second)
        assert not merkle.verify_consistency(old, old + more, proof, first, merkle.leaf(b"other"))


@given(st.integers(0, 10**12))
def test_a_tile_is_found_by_its_path(number: int) -> None:
    assert tiles.number_of(tiles.path_of(number)) == number


def test_paths_are_written_as_the_specification_shows() -> None:
    assert tiles.path_of(1_234_067) == "x001/x234/067"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_its_entries_back(content: list[bytes]) -> None:
    assert tiles.unbundle(tiles.bundle(content)) == content
