-- The route's epoch under which the champion came to serve alone: an older one never brings a former champion back.
ALTER TABLE champion ADD COLUMN epoch bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0);
