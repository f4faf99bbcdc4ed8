-- When the model's route last ceased to name a version: gateways may follow that route a while.
ALTER TABLE rollout ADD COLUMN unrouted_at timestamptz;
