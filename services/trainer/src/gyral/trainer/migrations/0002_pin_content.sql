-- What a pinned version holds, as it was announced.
ALTER TABLE dataset ADD COLUMN content text;
ALTER TABLE dataset ADD COLUMN schema_version bigint;
