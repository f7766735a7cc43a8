"""Triggers that delete a file's dead letter when the file is queued again or removed."""

from alembic import op

revision = "0005"
down_revision = "0004"

UP = """
CREATE FUNCTION forget_set_aside() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dead_letters WHERE topic = 'store_files'
        AND key = convert_to(OLD.tenant || '/' || OLD.store || '/' || OLD.file, 'UTF8');
    RETURN NULL;
END $$;
CREATE TRIGGER forget_set_aside AFTER DELETE ON store_files
    FOR EACH ROW WHEN (OLD.status = 'failed') EXECUTE FUNCTION forget_set_aside();
CREATE TRIGGER forget_retried AFTER UPDATE OF status ON store_files
    FOR EACH ROW WHEN (OLD.status = 'failed' AND NEW.status <> 'failed') EXECUTE FUNCTION forget_set_aside();
"""

DOWN = """
DROP TRIGGER forget_retried ON store_files;
DROP TRIGGER forget_set_aside ON store_files;
DROP FUNCTION forget_set_aside();
DELETE FROM dead_letters WHERE topic = 'store_files';
"""


def upgrade() -> None:
    """Create the triggers: any change that ends a file's failure deletes its dead letter."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(DOWN)
