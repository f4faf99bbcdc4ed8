-- How many answers of its step were kept when it was judged last.
ALTER TABLE rollout ADD COLUMN kept bigint NOT NULL DEFAULT 0;
