-- Which refused row a row is the replay of, read from its header; who wanted it is in the kit's log of replays.
ALTER TABLE quarantine
    ADD COLUMN origin bigint GENERATED ALWAYS AS (
        CASE WHEN encode(header_values[array_position(header_names, 'gyral-quarantine')], 'escape')
                  ~ '^[0-9]{1,18}$'
             THEN encode(header_values[array_position(header_names, 'gyral-quarantine')], 'escape')::bigint
        END) STORED,
    ADD COLUMN replay_id uuid;

CREATE INDEX quarantine_origin ON quarantine (origin) WHERE origin IS NOT NULL;

DROP TABLE quarantine_replay;
