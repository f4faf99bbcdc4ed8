-- The models that a key may ask; null: every one.
ALTER TABLE api_key ADD COLUMN models text[];
