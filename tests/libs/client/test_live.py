"""How a replay says where it is."""

from gyral.client.replay import live


def test_away_from_a_terminal_a_period_is_a_line_and_what_goes_on_is_none(capsys):
    with live.line() as line:
        line.doing("sending and asking")
        line.scores = "log-loss frozen@1 0.5000"
        line.over("2013-03")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "2013-03  log-loss frozen@1 0.5000\n"
