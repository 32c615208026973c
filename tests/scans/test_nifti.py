"""NIfTI out and in: true place in the patient, true frame time, and refusals that say what is wrong."""

import gzip

import nibabel
import numpy as np
import pytest
from nifti_files import write_nifti

from cpgg_hf.errors import InputError
from cpgg_hf.plane import TYPICAL_4CH_ORIENTATION, affine_of_plane
from cpgg_hf.scans.nifti import read_nifti, read_nifti_frames

ORIENTATION = np.array([0.8, 0.6, 0.0, 0.0, 0.0, -1.0])
POSITION = np.array([-100.0, -50.0, 70.0])


@pytest.fixture
def cine() -> np.ndarray:
    return np.random.default_rng(0).random((12, 20, 30)).astype(np.float32)


def save(path, array, zooms, units=("mm", "sec")):
    image = nibabel.Nifti1Image(array, None)
    image.header.set_zooms(zooms)
    image.header.set_xyzt_units(*units)
    nibabel.save(image, path)
    return path


def test_the_affine_is_dicoms_plane_equation_in_nifti_axes():
    affine = affine_of_plane((1.5, 1.25), ORIENTATION, POSITION)
    row, column = 7, 11
    in_patient = POSITION + column * 1.25 * ORIENTATION[:3] + row * 1.5 * ORIENTATION[3:]
    assert (affine @ [column, row, 0, 1])[:3] == pytest.approx(in_patient * [-1, -1, 1])
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(6)


def test_what_is_written_is_read(tmp_path, cine):
    affine = affine_of_plane((1.8, 1.8), ORIENTATION, POSITION, slice_thickness_mm=8)
    series = read_nifti(write_nifti(tmp_path / "cine.nii.gz", cine, 70.0, affine=affine))
    assert np.array_equal(series.pixels, cine)
    assert series.spacing_mm == pytest.approx([1.8, 1.8])
    assert series.frame_time_ms == pytest.approx(70)
    assert series.rr_ms == pytest.approx(12 * 70)
    assert series.orientation == pytest.approx(ORIENTATION, abs=1e-6)
    assert series.position == pytest.approx(POSITION, abs=1e-4)
    assert series.slice_thickness_mm == pytest.approx(8)
    assert series.warnings == ()


@pytest.mark.parametrize(
    "orientation", [ORIENTATION, [0.903, 0.235, -0.36, -0.192, -0.528, -0.827], [0, 0.9, -0.436, 0, -0.436, -0.9]]
)
def test_a_file_turned_to_the_patients_axes_is_read_as_it_was(tmp_path, cine, orientation):
    """As MONAI and TorchIO write them: the only slice may lie along any axis."""
    axes = np.array(orientation, dtype=float)
    affine = affine_of_plane((1.8, 1.8), axes, POSITION, slice_thickness_mm=8)
    path = write_nifti(tmp_path / "cine.nii.gz", cine, 70.0, affine=affine)
    turned = nibabel.as_closest_canonical(nibabel.load(path))
    assert turned.shape[2] > 1
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    expected, series = read_nifti(path), read_nifti(tmp_path / "turned.nii.gz")
    assert np.array_equal(series.pixels, expected.pixels)
    assert series.spacing_mm == pytest.approx(expected.spacing_mm)
    assert series.orientation == pytest.approx(expected.orientation, abs=1e-5)
    assert series.position == pytest.approx(expected.position, abs=1e-3)
    assert series.slice_thickness_mm == pytest.approx(8)
    assert series.rr_ms == pytest.approx(840)


def test_pixel_sizes_that_contradict_each_other_are_refused(tmp_path, cine):
    path = write_nifti(tmp_path / "cine.nii.gz", cine, 70.0)
    image = nibabel.load(path)
    image.set_sform(image.affine @ np.diag([1.5, 1.5, 1.5, 1.0]), code="aligned")
    nibabel.save(image, path)
    with pytest.raises(
        InputError, match=r"sform states pixels of 2\.7 x 2\.7 mm, pixdim and the qform 1\.8 x 1\.8 mm"
    ):
        read_nifti(path)


@pytest.mark.parametrize("spacing_mm", [1.8, 1.791])
def test_rounded_pixel_sizes_do_not_contradict_each_other(tmp_path, cine, spacing_mm):
    path = write_nifti(tmp_path / "cine.nii", cine, 70.0)
    set_field(path, "pixdim", [1, spacing_mm, spacing_mm, 6, 70, 1, 1, 1])
    assert read_nifti(path).spacing_mm == pytest.approx([1.8, 1.8])


def test_several_beats_are_said_or_the_first_is_read(tmp_path, cine):
    beats = np.concatenate([cine, cine + 1, cine + 2])
    path = write_nifti(tmp_path / "cine.nii", beats, 55.0)
    assert "cover 1980 ms, taken as one beat; if these are several beats, give" in read_nifti(path).warnings[0]
    series = read_nifti(path, rr_ms=660)
    assert np.array_equal(series.pixels, cine)
    assert series.frame_time_ms == pytest.approx(55)
    assert "24 frames after the first 660 ms were left out" in series.warnings[0]


def test_frames_that_do_not_fill_the_given_beat_keep_their_times(tmp_path, cine):
    series = read_nifti(write_nifti(tmp_path / "cine.nii", cine, 70.0), rr_ms=1000)
    assert (series.frame_time_ms, series.rr_ms) == pytest.approx((70, 1000))
    assert "leave out the last 16% of the beat" in series.warnings[0]


def test_nan_around_the_image_is_black_with_a_warning(tmp_path, cine):
    expected = cine.copy()
    cine[:, :3], cine[:, :, 25:], cine[2:5, 17:] = np.nan, np.nan, np.nan
    series = read_nifti(write_nifti(tmp_path / "cine.nii", cine, 70.0))
    inside = ~np.isnan(cine)
    assert np.array_equal(series.pixels[inside], expected[inside])
    assert (series.pixels[~inside] == cine[inside].min()).all()
    assert "% of the pixels, at the borders, are NaN and were read as black" in series.warnings[0]


@pytest.mark.parametrize("form", ["two axes", "three axes", "turned to the patient's axes"])
def test_files_of_one_frame_each_are_one_cine(tmp_path, cine, form):
    affine = affine_of_plane((1.8, 1.8), ORIENTATION, POSITION)
    for index, frame in enumerate(cine):
        image = nibabel.Nifti1Image(frame.T if form == "two axes" else frame.T[..., None], affine)
        image = nibabel.as_closest_canonical(image) if "turned" in form else image
        nibabel.save(image, tmp_path / f"frame_{index}.nii.gz")
    paths = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="12 NIfTI files of one frame each state no frame time; give the RR"):
        read_nifti_frames(paths, str(tmp_path))
    series = read_nifti_frames(paths, str(tmp_path), rr_ms=840)
    assert np.array_equal(series.pixels, cine)
    assert series.position == pytest.approx(POSITION, abs=1e-4)
    assert series.frame_time_ms == pytest.approx(70)
    assert series.spacing_mm == pytest.approx([1.8, 1.8])
    assert "12 NIfTI files were read as the frames of one beat" in series.warnings[0]


@pytest.mark.parametrize(
    ("shape", "shift_mm", "message"),
    [
        ((30, 20, 9), 0, r"frame_3\.nii has axes \(30, 20, 9\), expected one frame of one slice in each"),
        ((30, 22, 1), 0, r"frame_0\.nii and frame_3\.nii differ in size or place"),
        ((30, 20, 1), 5, r"frame_0\.nii and frame_3\.nii differ in size or place"),
    ],
)
def test_frames_that_differ_are_refused(tmp_path, shape, shift_mm, message):
    for index in range(10):
        affine = affine_of_plane((1.8, 1.8), ORIENTATION, POSITION + (index == 3) * shift_mm)
        stored = np.ones(shape if index == 3 else (30, 20, 1), np.float32)
        nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / f"frame_{index}.nii")
    with pytest.raises(InputError, match=message):
        read_nifti_frames(sorted(tmp_path.iterdir()), str(tmp_path), rr_ms=840)


def test_the_default_plane_is_made_of_unit_vectors():
    axes = np.array(TYPICAL_4CH_ORIENTATION).reshape(2, 3)
    assert axes @ axes.T == pytest.approx(np.eye(2), abs=1e-4)


def test_axes_along_the_patients_mean_that_the_plane_is_unknown(tmp_path, cine):
    series = read_nifti(write_nifti(tmp_path / "cine.nii", cine, 70.0, affine=np.diag([1.5, 1.5, 6.0, 1.0])))
    assert series.orientation is None
    assert series.normal is None
    assert series.spacing_mm == pytest.approx([1.5, 1.5])
    assert "does not state the image's position in the patient" in series.warnings[0]


@pytest.mark.parametrize(("time", "unit"), [(0.07, "sec"), (70.0, "msec"), (0.07, "unknown"), (70.0, "unknown")])
def test_seconds_milliseconds_and_no_unit(tmp_path, cine, time, unit):
    path = save(tmp_path / "a.nii", cine.transpose(2, 1, 0)[:, :, None], (1.4, 1.5, 6, time), ("mm", unit))
    assert read_nifti(path).frame_time_ms == pytest.approx(70, rel=1e-6)


def test_an_impossible_frame_time_needs_the_rr_interval(tmp_path, cine):
    path = save(tmp_path / "a.nii", cine.transpose(2, 1, 0)[:, :, None], (1.4, 1.5, 6, 1.0))
    with pytest.raises(InputError, match="frame time of 1 sec for 12 frames implies no RR interval"):
        read_nifti(path)
    assert read_nifti(path, rr_ms=960).frame_time_ms == pytest.approx(80)


@pytest.mark.parametrize("rr_ms", [-5.0, 0.9, float("nan")])
def test_an_rr_interval_that_no_heart_has_is_refused(tmp_path, cine, rr_ms):
    path = save(tmp_path / "a.nii", cine.transpose(2, 1, 0)[:, :, None], (1.4, 1.5, 6, 70.0), ("mm", "msec"))
    with pytest.raises(InputError, match=r"the RR interval is given as .* expected 240 to 2500"):
        read_nifti(path, rr_ms=rr_ms)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"is a folder; give a \.nii"):
        read_nifti(tmp_path)


def test_three_axes_are_read_as_time_with_a_warning(tmp_path, cine):
    path = save(tmp_path / "a.nii", cine.transpose(2, 1, 0), (1.4, 1.5, 1.0))
    series = read_nifti(path, rr_ms=960)
    assert np.array_equal(series.pixels, cine)
    assert series.spacing_mm == pytest.approx([1.5, 1.4])
    assert "the third was read as time" in series.warnings[0]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((30, 20, 9, 12), "holds 9 slices of 12 frames"),
        ((30, 20), r"has axes \(30, 20\)"),
        ((30, 20, 1, 12, 3), "has axes"),
        ((30, 20, 1, 1, 1, 12), "has axes"),
        ((8, 8, 1, 12), "frames of 8 x 8 pixels"),
    ],
)
def test_other_axes_are_refused(tmp_path, shape, message):
    path = save(tmp_path / "a.nii.gz", np.ones(shape, np.float32), (1.4, 1.4, 6, 0.07, 1, 1)[: len(shape)])
    with pytest.raises(InputError, match=message):
        read_nifti(path)


def test_damaged_and_foreign_files_are_refused(tmp_path, cine):
    path = write_nifti(tmp_path / "cine.nii.gz", cine, 70.0)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"cannot read .*: not a NIfTI file, or truncated"):
        read_nifti(path)
    path = write_nifti(tmp_path / "cine.nii", cine, 70.0)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"cannot read .*: not a NIfTI file, or truncated"):
        read_nifti(path)
    path.write_text("not an image")
    with pytest.raises(InputError, match="not a NIfTI file"):
        read_nifti(path)
    with pytest.raises(InputError, match="does not exist"):
        read_nifti(tmp_path / "absent.nii")


def test_values_that_are_no_numbers_are_refused(tmp_path, cine):
    cine[4, 3, 2] = np.nan
    with pytest.raises(InputError, match="frame 5 of 12 holds values that are not finite numbers"):
        read_nifti(write_nifti(tmp_path / "cine.nii", cine, 70.0))


def set_field(path, name, value):
    """A field of the header of an uncompressed file, as it stands on disk."""
    content = path.read_bytes()
    header = np.frombuffer(content[:348], nibabel.Nifti1Header.template_dtype).copy()
    header[name] = value
    path.write_bytes(header.tobytes() + content[348:])
    return path


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_header_that_claims_a_giant_image_is_refused_before_it_is_read(tmp_path, cine, ending):
    path = write_nifti(tmp_path / "cine.nii", cine, 70.0)
    set_field(path, "dim", [4, 32767, 32767, 1, 50, 1, 1, 1])
    if ending == "nii.gz":
        path = tmp_path / "cine.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "cine.nii").read_bytes()))
    with pytest.raises(InputError, match="50 frames of 32767 x 32767 pixels are more than a cine has"):
        read_nifti(path)


def test_more_frames_than_a_beat_has_are_refused(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((16, 16, 1, 501), np.uint8), (1.4, 1.4, 6, 0.001))
    with pytest.raises(InputError, match="holds 501 frames, a cine of one beat has at most 500"):
        read_nifti(path)


def test_no_integer_overflows(tmp_path, cine):
    """uint16 voxels above 32767, and int16 ones that the header's slope takes far beyond int16."""
    voxels = np.round(60_000 * cine).astype(np.uint16).transpose(2, 1, 0)[:, :, None]
    path = save(tmp_path / "a.nii", voxels, (1.4, 1.4, 6, 70.0), ("mm", "msec"))
    assert np.array_equal(read_nifti(path).pixels, voxels[:, :, 0].transpose(2, 1, 0))
    voxels = np.round(30_000 * cine).astype(np.int16).transpose(2, 1, 0)[:, :, None]
    path = save(tmp_path / "b.nii", voxels, (1.4, 1.4, 6, 70.0), ("mm", "msec"))
    for name, value in (("scl_slope", 10.0), ("scl_inter", -5.0)):
        set_field(path, name, value)
    assert np.array_equal(read_nifti(path).pixels, 10.0 * voxels[:, :, 0].transpose(2, 1, 0) - 5)


def test_a_time_unit_that_nobody_knows_is_no_unit(tmp_path, cine):
    path = set_field(write_nifti(tmp_path / "cine.nii", cine, 70.0), "xyzt_units", 7)
    assert read_nifti(path).frame_time_ms == pytest.approx(70)
    with pytest.raises(InputError, match="frame time of 9 of unknown unit for 12 frames"):
        read_nifti(set_field(path, "pixdim", [1, 1.8, 1.8, 6, 9, 1, 1, 1]))


def test_what_is_repaired_in_a_header_is_said_in_a_warning_not_printed(tmp_path, cine, caplog):
    path = set_field(write_nifti(tmp_path / "cine.nii", cine, 70.0), "sform_code", 77)
    assert "header was repaired as it was read (sform_code 77 not valid; setting to 0)" in read_nifti(path).warnings[0]
    assert caplog.records == []


def test_a_sheared_plane_is_refused(tmp_path, cine):
    path = write_nifti(tmp_path / "cine.nii", cine, 70.0, affine=affine_of_plane((1.8, 1.8), ORIENTATION, POSITION))
    set_field(path, "srow_z", [0, -1.3416, 0, 0])
    set_field(path, "srow_x", [-1.44, 1.2, 0, 0])  # pixels of 1.8 x 1.8 mm, as in pixdim
    with pytest.raises(InputError, match="expected two perpendicular unit vectors"):
        read_nifti(path)


@pytest.mark.filterwarnings("error")
def test_a_rescaling_that_overflows_is_refused_without_a_warning_of_numpys(tmp_path, cine):
    voxels = np.round(30_000 * cine).astype(np.int16).transpose(2, 1, 0)[:, :, None]
    path = save(tmp_path / "a.nii", voxels, (1.4, 1.4, 6, 70.0), ("mm", "msec"))
    set_field(path, "scl_slope", 3e38)
    with pytest.raises(InputError, match="holds values that are not finite numbers"):
        read_nifti(path)


@pytest.mark.parametrize("thickness", [1e-30, 1e30])
def test_a_slice_thickness_of_no_slice_is_not_known(tmp_path, cine, thickness):
    path = write_nifti(tmp_path / "cine.nii", cine, 70.0)
    assert read_nifti(path).slice_thickness_mm == pytest.approx(6)
    set_field(path, "pixdim", [1, 1.8, 1.8, thickness, 70, 1, 1, 1])
    assert read_nifti(path).slice_thickness_mm is None


def test_stills_are_refused_since_the_heart_is_found_by_its_motion(tmp_path, cine):
    """End diastole and end systole alone, as some public sets give them; the header has no frame time."""
    save(tmp_path / "stills.nii", cine[:2].transpose(2, 1, 0)[:, :, None], (1.5, 1.5, 6.0, 0.0))
    with pytest.raises(InputError, match=r"holds 2 frames .stills do not show the motion .*give the complete series"):
        read_nifti(tmp_path / "stills.nii")
