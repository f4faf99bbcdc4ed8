-- The one type each feature of a model ever had: the table of its predictions has a column for it.
CREATE TABLE feature (
    model        text        NOT NULL,
    name         text        NOT NULL,
    type         text        NOT NULL,
    PRIMARY KEY (model, name)
);

INSERT INTO feature (model, name, type)
SELECT model.name, field, stream.document -> 'spec' -> 'fields' -> field ->> 'type'
  FROM spec AS model
 CROSS JOIN jsonb_array_elements_text(model.document -> 'spec' -> 'features' -> 'fields') AS field
  JOIN spec AS stream
    ON stream.kind = 'Stream'
   AND stream.name = model.document -> 'spec' -> 'features' ->> 'stream'
 WHERE model.kind = 'Model'
   AND stream.document -> 'spec' -> 'fields' ? field;
