"""How many answers of a step are kept."""

from uuid import UUID

from gyral.deployer.domain.samples import KEPT_WHOLE, Step

IDS = [UUID(int=number) for number in range(20_000)]


def kept(step):
    return {each for each in IDS if step.keeps(each)}


def test_a_step_that_answers_end_keeps_all_of_them():
    assert kept(Step(1, open_ended=False, kept=9 * KEPT_WHOLE)) == set(IDS)
    assert kept(Step(1, open_ended=True, kept=KEPT_WHOLE - 1)) == set(IDS)


def test_beyond_the_cap_each_tenth_quarters_what_is_kept_and_keeps_whole_requests():
    quarter = kept(Step(1, open_ended=True, kept=KEPT_WHOLE))
    sixteenth = kept(Step(1, open_ended=True, kept=KEPT_WHOLE * 11 // 10))
    # Five standard errors of a share at 20,000 ids.
    assert abs(len(quarter) - 5000) < 310
    assert abs(len(sixteenth) - 1250) < 175
    assert sixteenth < quarter


def test_no_number_of_requests_keeps_twice_the_cap():
    assert kept(Step(1, open_ended=True, kept=2 * KEPT_WHOLE)) == set()
    assert Step(1, open_ended=True, kept=100 * KEPT_WHOLE).keeps(IDS[0]) is False
