-- A dataset version pins its content: the sum of its rows' digests, and the newest schema among them.
ALTER TABLE stream_progress ADD COLUMN table_rows bigint;
ALTER TABLE stream_progress ADD COLUMN table_content text;
ALTER TABLE stream_progress ADD COLUMN table_schema_version bigint;

ALTER TABLE dataset ADD COLUMN content text;
ALTER TABLE dataset ADD COLUMN schema_version bigint;
