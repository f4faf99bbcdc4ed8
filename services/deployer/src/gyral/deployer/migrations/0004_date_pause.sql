-- When an operator held a step, on the model's clock: the time until it goes on does not count.
ALTER TABLE rollout ADD COLUMN paused_at timestamptz;
