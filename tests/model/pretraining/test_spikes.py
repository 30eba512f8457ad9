import random

from model.pretraining.loss_spikes import SpikeDetector


def losses(count: int, seed: int = 0) -> list[float]:
    """A loss that falls from 8 to 3 with noise of a tenth."""
    noise = random.Random(seed)
    return [3 + 5 * 0.99**step + noise.gauss(0, 0.1) for step in range(count)]


def test_a_falling_noisy_loss_has_no_spikes():
    for seed in range(20):
        detector = SpikeDetector()
        assert [loss for loss in losses(2000, seed) if detector.hear(loss) is not None] == []
        assert detector.count == 0


def test_a_spike_is_told_with_what_was_usual_and_does_not_hide_the_next():
    curve = losses(1000)
    curve[600] = curve[603] = 6.0
    detector = SpikeDetector()
    found = {
        step: usual for step, loss in enumerate(curve) if (usual := detector.hear(loss)) is not None
    }
    assert list(found) == [600, 603]
    assert all(2.9 < usual < 3.2 for usual in found.values())
    assert detector.count == 2


def test_a_new_level_is_a_spike_until_it_is_the_usual_one():
    detector = SpikeDetector()
    levels = [3.0] * 200 + [9.0] * 200
    found = [step for step, loss in enumerate(levels) if detector.hear(loss) is not None]
    assert found == list(range(200, 250)), "half of the window"


def test_a_rise_below_half_a_nat_is_none_however_still_the_loss_was():
    detector = SpikeDetector([2.0] * 100)
    assert detector.hear(2.4) is None
    assert detector.hear(2.6) == 2.0


def test_the_first_hundred_steps_are_not_judged():
    detector = SpikeDetector()
    assert [detector.hear(1.0 if step < 50 else 100.0) for step in range(100)] == [None] * 100
