"""The time of each frame: gaps are named where they lie, beats are not mixed, and the right unit is found."""

import numpy as np
import pytest
from dicom_files import write_dicom_series

from cpgg_hf.errors import InputError
from cpgg_hf.scans.dicom import read_dicom_folder

TIMES = 10 + np.arange(20) * 33.0


@pytest.fixture
def cine() -> np.ndarray:
    """Twenty frames whose brightness tells their number."""
    noise = np.random.default_rng(0).integers(0, 50, (20, 20, 24))
    return noise + 100 * np.arange(1, 21)[:, None, None]


def write(folder, cine, kept, change=lambda index, dataset: None, times=TIMES, rr_ms=659.0):
    """The frames `kept` of a cine; InstanceNumber counts all of them."""
    kept = np.asarray(kept)

    def number(index, dataset):
        dataset.InstanceNumber = int(kept[index]) + 101
        dataset.CardiacNumberOfImages = 20
        change(kept[index], dataset)

    write_dicom_series(folder, cine[kept], times=times[kept], rr_ms=rr_ms, change=number)
    return folder


def untimed(index, dataset):
    del dataset.TriggerTime


def test_a_gap_is_named_where_it_lies(tmp_path, cine):
    middle, start = np.r_[0:8, 12:20], np.r_[4:20]
    with pytest.raises(InputError, match=r"no frames between 241 and 406 ms of the beat, about 4 at steps of 33 ms"):
        read_dicom_folder(write(tmp_path / "middle", cine, middle))
    with pytest.raises(InputError, match=r"no frames between 0 and 142 ms of the beat, about 4 at steps of 33 ms"):
        read_dicom_folder(write(tmp_path / "start", cine, start))
    series = read_dicom_folder(write(tmp_path / "end", cine, np.r_[0:16]))
    assert "leave out the last 18% of the beat" in " ".join(series.warnings)


def test_a_gap_in_the_numbers_of_frames_without_times_is_named_too(tmp_path, cine):
    with pytest.raises(InputError, match=r"no frames between 231 and 395 ms of the beat, about 4"):
        read_dicom_folder(write(tmp_path, cine, np.r_[0:8, 12:20], untimed))


def test_one_missing_frame_is_interpolated_and_named(tmp_path, cine):
    series = read_dicom_folder(write(tmp_path, cine, np.r_[0:8, 9:20]))
    assert series.rr_ms == pytest.approx(660)
    assert series.times_ms == pytest.approx(np.delete(TIMES, 8))
    assert "no frames between 241 and 307 ms of the beat; they were interpolated" in " ".join(series.warnings)


@pytest.mark.parametrize("header", ["NominalInterval", "HeartRate", "CardiacNumberOfImages"])
def test_several_beats_are_refused_or_the_first_is_read(tmp_path, cine, header):
    def state(index, dataset):
        del dataset.NominalInterval
        value = {"NominalInterval": 660, "HeartRate": 91, "CardiacNumberOfImages": 20}[header]
        setattr(dataset, header, value)

    write(tmp_path, np.concatenate([cine, cine + 1, cine + 2]), np.arange(60), state, times=np.arange(60) * 33.0)
    with pytest.raises(
        InputError, match=r"60 frames cover 1980 ms, 3\.0 times the beat of 6(59|60) ms that the header"
    ):
        read_dicom_folder(tmp_path)
    series = read_dicom_folder(tmp_path, rr_ms=660)
    assert np.array_equal(series.pixels, cine)
    assert series.rr_ms == pytest.approx(660)
    assert "40 frames after the first 660 ms were left out" in series.warnings[0]


def test_several_beats_without_times_are_refused(tmp_path, cine):
    write(tmp_path, np.concatenate([cine, cine + 1]), np.arange(40), untimed, times=np.arange(40) * 33.0)
    with pytest.raises(InputError, match="40 frames without trigger times, of which 20 make a beat"):
        read_dicom_folder(tmp_path)


def test_a_long_beat_that_nothing_states_is_said(tmp_path, cine):
    def forget(index, dataset):
        del dataset.NominalInterval, dataset.CardiacNumberOfImages

    series = read_dicom_folder(write(tmp_path, cine, np.arange(20), forget, times=np.arange(20) * 90.0))
    assert series.rr_ms == pytest.approx(1800)
    assert "cover 1800 ms, taken as one beat; if these are several" in series.warnings[0]


@pytest.mark.parametrize(("factor", "unit"), [(1000.0, "microseconds"), (0.001, "seconds")])
@pytest.mark.parametrize("stated", [True, False])
def test_another_unit_is_named(tmp_path, cine, factor, unit, stated):
    def forget(index, dataset):
        if not stated:
            del dataset.NominalInterval

    series = read_dicom_folder(write(tmp_path, cine, np.arange(20), forget, times=TIMES * factor))
    assert series.times_ms == pytest.approx(TIMES)
    assert series.rr_ms == pytest.approx(660)
    assert f"the trigger times are in {unit} instead of milliseconds" in series.warnings[0]


def test_of_times_without_a_unit_only_the_order_is_used_if_the_beat_is_given(tmp_path, cine):
    write(tmp_path, cine, np.arange(20)[::-1], times=TIMES * 30)
    with pytest.raises(InputError, match=r"30\.\d times the beat of 659 ms.*--rr-ms"):
        read_dicom_folder(tmp_path)
    series = read_dicom_folder(tmp_path, rr_ms=660)
    assert np.array_equal(series.pixels, cine)
    assert series.times_ms == pytest.approx(np.arange(20) * 33.0)
    assert "only their order was used" in series.warnings[0]


def test_temporal_positions_give_the_order(tmp_path, cine):
    """Philips: neither TriggerTime nor a useful InstanceNumber."""

    def order(index, dataset):
        del dataset.TriggerTime, dataset.InstanceNumber
        dataset.TemporalPositionIdentifier = 20 - index

    series = read_dicom_folder(write(tmp_path, cine, np.arange(20), order, rr_ms=660))
    assert np.array_equal(series.pixels, cine[::-1])
    assert series.times_ms == pytest.approx(np.arange(20) * 33.0)
    assert "sorted by TemporalPositionIdentifier and spread evenly over 660 ms" in series.warnings[0]
