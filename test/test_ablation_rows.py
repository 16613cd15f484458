"""What each row of the ablation runs; nothing here needs Jittor."""
from pathlib import Path

import pytest

from ldm.ablation import rows
from ldm.diffusion import Schedule
from ldm.errors import UserError
from ldm.inference import rounds

ROOT = Path(__file__).resolve().parents[1]
SCHEDULE = Schedule.named("linear")


def settings_of(tmp_path, text):
    path = tmp_path / "rounds.yaml"
    path.write_text(text)
    return rounds.load(path)


def test_rows_of_the_entry():
    made = {row.name: row for row in rows.rows(rounds.load(ROOT / "configs/infer/entry.yaml"), SCHEDULE)}
    assert {name: row.settings.steps(SCHEDULE) for name, row in made.items()} == {
        "dm": 500, "i2i": 300, "refinement": 640, "color_transfer": 640, "ensemble": 640}
    noise_index, start = made["dm"].settings.for_schedule(SCHEDULE)[0][1:3]
    assert (noise_index, start) == (None, 500)
    assert [r.color_transfer for r in made["refinement"].settings.for_schedule(SCHEDULE)] == ["", "", ""]
    assert made["color_transfer"].settings == made["ensemble"].settings
    assert [row.averaged for row in made.values()] == [False] * 4 + [True]


def test_rows_by_strength_keep_the_spacing(tmp_path):
    settings = settings_of(tmp_path, "rounds:\n  - {strength: 0.32, steps: 16}\n"
                                     "  - {strength: 0.32, steps: 16, color_transfer: exact}\n")
    dm = rows.rows(settings, SCHEDULE)[0].settings.rounds[0]
    assert (dm["strength"], dm["steps"], dm["from"]) == (1.0, 50, "noise")


def test_rounding_adds_no_step(tmp_path):
    """21 / 0.7 is 30.000000000000004."""
    settings = settings_of(tmp_path, "rounds:\n  - {strength: 0.7, steps: 21}\n"
                                     "  - {strength: 0.5, steps: 5, color_transfer: exact}\n")
    assert rows.rows(settings, SCHEDULE)[0].settings.rounds[0]["steps"] == 30


@pytest.mark.parametrize("text, word", [
    ("rounds:\n  - {strength: 0.5, steps: 5}\n", "no part to leave out"),
    ("rounds:\n  - {strength: 1.0, steps: 5, from: noise}\n  - {strength: 0.5, steps: 5}\n", "no part"),
    ("rounds:\n  - {strength: 0.5, steps: 5}\n  - {strength: 0.5, steps: 5}\n", "have no color_transfer")])
def test_rounds_without_the_parts_are_refused(tmp_path, text, word):
    with pytest.raises(UserError, match=word):
        rows.rows(settings_of(tmp_path, text), SCHEDULE)
