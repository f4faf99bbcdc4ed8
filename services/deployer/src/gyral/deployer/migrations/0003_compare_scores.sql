-- What a step's verdict needs besides rows and latencies, and what it came to.
ALTER TABLE rollout DROP CONSTRAINT rollout_stage_check;
ALTER TABLE rollout ADD CONSTRAINT rollout_stage_check CHECK (
    stage IN ('warming', 'shadow', 'canary', 'ab', 'completed', 'aborted', 'rolled_back')
);
ALTER TABLE rollout
    ADD COLUMN awaiting boolean NOT NULL DEFAULT false,
    ADD COLUMN since    timestamptz,
    ADD COLUMN measured jsonb   NOT NULL DEFAULT '{}';

-- The mean score of a request's rows, NULL where one failed; a block holds the requests of one
-- entity, which depend on each other.
ALTER TABLE observation
    ADD COLUMN score double precision,
    ADD COLUMN block bigint NOT NULL DEFAULT 0;
