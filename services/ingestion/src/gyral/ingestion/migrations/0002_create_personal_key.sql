-- Which secret the pseudonyms follow from, as its fingerprint: the one row.
CREATE TABLE personal_key (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    fingerprint text    NOT NULL
);
