-- Event time before which a stream's rows met every expectation that blocks.
ALTER TABLE dataset ADD COLUMN usable_until timestamptz;
UPDATE dataset SET usable_until = watermark;
ALTER TABLE dataset ALTER COLUMN usable_until SET NOT NULL;
