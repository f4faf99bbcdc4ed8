import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.*;
import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.StringSerializer;

/** Sends rows of stdin, a key, a tab and a JSON object each, straight to Kafka. */
class Producer {
    static final String TYPE = "data.record.submitted.v1";

    public static void main(String[] args) throws Exception {
        var text = new StringSerializer(); // the default partitioner hashes the key with murmur2
        var config = Map.<String, Object>of(
            "bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true);
        try (var producer = new KafkaProducer<>(config, text, text)) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            var rows = new BufferedReader(new InputStreamReader(System.in, UTF_8));
            for (String line; (line = rows.readLine()) != null; ) {
                var row = line.split("\t", 2);
                var key = row[0].replace("\\", "\\\\").replace("\"", "\\\"");
                var data = String.format("{\"stream\":\"%s\",\"record_key\":\"%s\",\"values\":%s}",
                    args[1], key, row[1]);
                var record = new ProducerRecord<>(TYPE, row[0], data);
                Map.of("ce_specversion", "1.0", "ce_id", UUID.randomUUID().toString(), "ce_type", TYPE,
                        "ce_source", "/java", "content-type", "application/json")
                    .forEach((name, value) -> record.headers().add(name, value.getBytes(UTF_8)));
                sent.add(producer.send(record));
            }
            for (var each : sent) each.get(); // a row counts as sent once this has not thrown
        }
    }
}
