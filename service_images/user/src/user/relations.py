"""Relationship-based access checks, through teams, stronger relations and parent objects.

The model is that of Zanzibar (Pang et al., USENIX ATC 2019). A subject has a relation to an object directly, as a
member of a set (`team:a#member`), through a stronger relation, or through the object's parent. Each check is one
query; PostgreSQL's UNION ends cycles.
"""

from __future__ import annotations

from collections.abc import Sequence

from kit.database import Connection

from user.models import Listing, Question, Tuple

_STRONGER = """(VALUES
    ('owner', 'admin'), ('owner', 'editor'), ('owner', 'viewer'), ('owner', 'member'),
    ('admin', 'editor'), ('admin', 'viewer'), ('admin', 'member'), ('editor', 'viewer')) AS w (stronger, weaker)"""
_CHECK = f"""
WITH RECURSIVE goal (object, relation) AS (
    VALUES (%(object)s::text, %(relation)s::text)
    UNION
    SELECT n.object, n.relation FROM goal g CROSS JOIN LATERAL (
        SELECT g.object, w.stronger AS relation FROM {_STRONGER} WHERE w.weaker = g.relation
        UNION ALL
        SELECT split_part(r.subject, '#', 1), split_part(r.subject, '#', 2) FROM relations r
        WHERE r.tenant = %(tenant)s AND r.object = g.object AND r.relation = g.relation AND r.subject LIKE '%%#%%'
        UNION ALL
        SELECT r.subject, g.relation FROM relations r
        WHERE r.tenant = %(tenant)s AND r.object = g.object AND r.relation = 'parent' AND g.relation <> 'parent'
    ) n
)
SELECT EXISTS (
    SELECT FROM goal g JOIN relations r ON r.tenant = %(tenant)s AND r.object = g.object AND r.relation = g.relation
    WHERE r.subject = %(subject)s)
    OR %(subject)s IN (SELECT object || '#' || relation FROM goal)
"""
_LIST = f"""
WITH RECURSIVE held (object, relation) AS (
    SELECT object, relation FROM relations WHERE tenant = %(tenant)s AND subject = %(subject)s
    UNION SELECT split_part(%(subject)s, '#', 1), split_part(%(subject)s, '#', 2) WHERE %(subject)s LIKE '%%#%%'
    UNION
    SELECT n.object, n.relation FROM held h CROSS JOIN LATERAL (
        SELECT h.object, w.weaker AS relation FROM {_STRONGER} WHERE w.stronger = h.relation
        UNION ALL
        SELECT r.object, r.relation FROM relations r
        WHERE r.tenant = %(tenant)s AND r.subject = h.object || '#' || h.relation
        UNION ALL
        SELECT r.object, h.relation FROM relations r
        WHERE r.tenant = %(tenant)s AND r.subject = h.object AND r.relation = 'parent' AND h.relation <> 'parent'
    ) n
)
SELECT DISTINCT object FROM held WHERE relation = %(relation)s AND split_part(object, ':', 1) = %(type)s ORDER BY object
"""


async def check(connection: Connection, question: Question) -> bool:
    """Whether the relation holds."""
    cursor = await connection.execute(_CHECK, question.model_dump(mode="json"))
    row = await cursor.fetchone()
    return bool(row and row[0])


async def objects(connection: Connection, listing: Listing) -> list[str]:
    """All objects of the type that the subject has the relation to, in order."""
    cursor = await connection.execute(_LIST, listing.model_dump(mode="json"))
    return [row[0] for row in await cursor.fetchall()]


async def write(connection: Connection, tenant: str, tuples: Sequence[Tuple]) -> tuple[Tuple, ...]:
    """Add relations. Returns those that are new."""
    return tuple([tuple_ for tuple_ in tuples if await _changed(connection, _INSERT, tenant, tuple_)])


async def delete(connection: Connection, tenant: str, tuples: Sequence[Tuple]) -> tuple[Tuple, ...]:
    """Remove relations. Returns those that existed."""
    return tuple([tuple_ for tuple_ in tuples if await _changed(connection, _DELETE, tenant, tuple_)])


_INSERT = "INSERT INTO relations VALUES (%(tenant)s, %(object)s, %(relation)s, %(subject)s) ON CONFLICT DO NOTHING"
_DELETE = (
    "DELETE FROM relations "
    "WHERE tenant = %(tenant)s AND object = %(object)s AND relation = %(relation)s AND subject = %(subject)s"
)


async def _changed(connection: Connection, statement: str, tenant: str, tuple_: Tuple) -> bool:
    cursor = await connection.execute(statement, {"tenant": tenant, **tuple_.model_dump(mode="json")})
    return cursor.rowcount > 0
