-- Orders that were adopted: the same one, told by another gateway, takes nothing back again.
CREATE TABLE pin (
    pin_id       uuid        NOT NULL,
    model        text        NOT NULL,
    adopted_at   timestamptz NOT NULL,
    PRIMARY KEY (pin_id, model)
);
