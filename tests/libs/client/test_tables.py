"""Tables on a terminal and away from one."""

from gyral.client.commands import tables

ID = "28d996d2-cfc2-5ba3-a370-b90ba9da9c59"
TIME = "2025-01-28T00:00:00Z"
WHY = "log_loss_gain: expected 95% lower bound above 0; found -0.006151"
HEAD = ("RUN ID", "AS OF", "REASON")


def test_without_a_terminal_nothing_is_broken():
    head, row = tables.lines(HEAD, [(ID, TIME, WHY)])
    assert row == f"{ID}  {TIME}  {WHY}"
    assert head.index("AS OF") == row.index(TIME)


def test_on_a_terminal_sentences_are_broken_and_ids_and_times_never():
    _, *shown = tables.lines(HEAD, [(ID, TIME, WHY)], 90)
    assert shown[0].startswith(f"{ID}  {TIME}  ")
    assert len(shown) > 1
    assert max(map(len, shown)) <= 90
    assert " ".join(line[60:].strip() for line in shown) == WHY


def test_a_terminal_too_narrow_for_an_id_breaks_none_either():
    _, *shown = tables.lines(HEAD, [(ID, TIME, WHY)], 40)
    assert shown[0].startswith(f"{ID}  {TIME}  ")


def test_an_empty_table_is_its_head():
    assert tables.lines(HEAD, []) == ["RUN ID  AS OF  REASON"]
