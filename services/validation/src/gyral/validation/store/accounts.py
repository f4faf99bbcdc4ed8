"""Writes where each offset ended that is no row of the lake."""

from collections.abc import Sequence

from gyral.kit.tx import Tx
from gyral.validation.domain.accounting import Duplicate, Marked, Quarantined, repeated


class AccountTx(Tx):
    """A transaction that can account for refused, repeated and marking records."""

    async def quarantine(self, rows: Sequence[Quarantined]) -> None:
        """Keep refused records, whole."""
        await self.conn.executemany(
            """
            INSERT INTO quarantine (topic, partition, "offset", row, stream, record_key,
                                    schema_version, reason, detail, kafka_key, value,
                                    header_names, header_values, protection, subject)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                    $14, $15)
            """,
            [
                (
                    row.place.topic,
                    row.place.partition,
                    row.place.offset,
                    row.place.row,
                    row.stream,
                    row.record_key,
                    row.schema_version,
                    row.violation.reason.value,
                    row.violation.detail,
                    row.kafka_key,
                    row.value,
                    [name for name, _ in row.headers],
                    [value for _, value in row.headers],
                    row.protection,
                    row.subject,
                )
                for row in rows
            ],
        )

    async def count_duplicates(self, rows: Sequence[Duplicate]) -> None:
        """Keep the places of rows that were accepted before, by ranges."""
        spans = repeated(rows)
        if spans:
            await self.conn.execute(
                """
                INSERT INTO duplicate_span (topic, partition, first_offset, last_offset,
                                            first_row, last_row, stream)
                SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[],
                                     $5::integer[], $6::integer[], $7::text[])
                """,
                [span.topic for span in spans],
                [span.partition for span in spans],
                [span.offsets[0] for span in spans],
                [span.offsets[1] for span in spans],
                [span.rows[0] for span in spans],
                [span.rows[1] for span in spans],
                [span.stream for span in spans],
            )

    async def count_markers(self, rows: Sequence[Marked]) -> None:
        """Keep the places of markers."""
        if rows:
            await self.conn.execute(
                """
                INSERT INTO marker (topic, partition, "offset", subject, event_time_us)
                SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[],
                                     $4::text[], $5::bigint[])
                """,
                [row.place.topic for row in rows],
                [row.place.partition for row in rows],
                [row.place.offset for row in rows],
                [row.subject for row in rows],
                [row.event_time_us for row in rows],
            )
