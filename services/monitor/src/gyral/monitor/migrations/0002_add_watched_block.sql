-- Length of the blocks a model's detectors saw; until now it was that of its last window.
ALTER TABLE watched ADD COLUMN block_us bigint;

UPDATE watched
   SET block_us = (SELECT end_us - start_us
                     FROM measurement
                    WHERE measurement.model = watched.model
                    ORDER BY start_us DESC
                    LIMIT 1);
