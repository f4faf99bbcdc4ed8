-- Which secret the pseudonyms follow from, as its fingerprint: the one row.
CREATE TABLE personal_key (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    fingerprint text    NOT NULL
);

-- How bytes are kept: as they came; or encrypted, be they from behind the door (`pseudonymised`)
-- or from elsewhere (`clear`). Once they are gone (`erased_at`) only their place is left.
ALTER TABLE quarantine
    ADD COLUMN protection text CHECK (protection IN ('pseudonymised', 'clear')),
    ADD COLUMN subject    text,
    ADD COLUMN erased_at  timestamptz;

CREATE INDEX quarantine_protected ON quarantine (stream, subject) WHERE protection IS NOT NULL AND erased_at IS NULL;
