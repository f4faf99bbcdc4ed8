-- An operator may hold a rollout, and roll back one that has completed.
ALTER TABLE rollout DROP CONSTRAINT rollout_stage_check;
ALTER TABLE rollout ADD CONSTRAINT rollout_stage_check CHECK (
    stage IN ('warming', 'shadow', 'canary', 'completed', 'aborted', 'rolled_back')
);
ALTER TABLE rollout
    ADD COLUMN paused         boolean NOT NULL DEFAULT false,
    ADD COLUMN actor          text,
    ADD COLUMN rolled_back_at timestamptz;

DROP INDEX rollout_in_flight;
CREATE UNIQUE INDEX rollout_in_flight ON rollout (model)
 WHERE stage NOT IN ('completed', 'aborted', 'rolled_back');
