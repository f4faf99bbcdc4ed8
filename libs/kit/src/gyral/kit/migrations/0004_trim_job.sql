-- No work saves how far it got, and a job's state says that it was cancelled.
ALTER TABLE job DROP COLUMN checkpoint, DROP COLUMN cancel;
