"""The cameras: depth against MuJoCo's own ray caster, encoding, colour, threads, bad input."""

from __future__ import annotations

import importlib
import pickle
import pkgutil

import mujoco
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from safetransfer import envs
from safetransfer.benchmarks.camera import make_scene
from safetransfer.benchmarks.mujoco_scene import reference_depth, reference_model
from safetransfer.envs import compiled
from safetransfer.envs.camera import Camera, Scene, decode_depth, encode_depth, look_at
from safetransfer.envs.camera import compiled as camera_compiled
from safetransfer.errors import SettingError

KINDS = {"planes": 2, "boxes": 6, "cylinders": 8, "capsules": 8, "spheres": 6, "ellipsoids": 6}
LENSES = [(50, 50, 90.0), (64, 48, 60.0), (33, 41, 110.0)]


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    quaternion = rng.normal(size=4)
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quaternion / np.linalg.norm(quaternion))
    return matrix.reshape(3, 3)


def random_scene(rng: np.random.Generator, kinds: dict[str, int]) -> Scene:
    """Primitives of 3 cm to 80 cm, some of them around the places where the cameras will be."""
    scene = Scene(1, **kinds)
    for k in range(kinds.get("planes", 0)):
        normal = rng.normal(size=3)
        scene.plane_normal[0, k] = normal / np.linalg.norm(normal)
        scene.plane_point[0, k] = -scene.plane_normal[0, k] * rng.uniform(0.1, 6)
    for place in (
        scene.box_center,
        scene.cylinder_a,
        scene.capsule_a,
        scene.sphere_center,
        scene.ellipsoid_center,
    ):
        place[:] = rng.uniform(-4, 4, place.shape)
    scene.cylinder_b[:] = scene.cylinder_a + rng.normal(0, 0.7, scene.cylinder_a.shape)
    scene.capsule_b[:] = scene.capsule_a + rng.normal(0, 0.5, scene.capsule_a.shape)
    for size in (scene.box_half, scene.ellipsoid_radii):
        size[:] = rng.uniform(0.05, 0.8, size.shape)
    for radius in (scene.cylinder_radius, scene.capsule_radius, scene.sphere_radius):
        radius[:] = rng.uniform(0.03, 0.6, radius.shape)
    for axes in (scene.box_axes, scene.ellipsoid_axes):
        for k in range(axes.shape[1]):
            axes[0, k] = random_rotation(rng)
    return scene


def wrong_pixels(ours: np.ndarray, reference: np.ndarray, max_depth: float) -> int:
    """Pixels more than 1 mm apart; a surface at the very end of the range may go either way."""
    ours, reference = np.minimum(ours, max_depth), np.minimum(reference, max_depth)
    return int((np.abs(ours.astype(float) - reference) > 1e-3).sum())


def compare(scene: Scene, index: int, camera: Camera, poses: list) -> tuple[int, int]:
    """(wrong, all) pixels over the poses."""
    model, data = reference_model(scene, index, camera)
    wrong = 0
    for position, rotation in poses:
        reference = reference_depth(model, data, camera, position, rotation)
        ours = camera.depth(scene.select(index), position, rotation)[0]
        wrong += wrong_pixels(ours, reference, camera.max_depth)
    return wrong, len(poses) * camera.width * camera.height


@pytest.mark.parametrize("kind", ["all", *KINDS])
def test_depth_is_mujocos_for_random_scenes(kind):
    wrong = total = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scene = random_scene(rng, KINDS if kind == "all" else {kind: KINDS[kind]})
        for lens in LENSES:
            poses = [(rng.uniform(-3, 3, 3), random_rotation(rng)) for _ in range(3)]
            bad, pixels = compare(scene, 0, Camera(*lens), poses)
            wrong, total = wrong + bad, total + pixels
    assert total > 100_000
    assert wrong <= total / 1000


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "planes"])
def test_depth_is_mujocos_from_within(kind):
    """A camera inside a primitive sees its far side, and all of it in every picture."""
    wrong = total = 0
    for seed in range(8):
        rng = np.random.default_rng(100 + seed)
        scene = random_scene(rng, {kind: 1})
        for name in ("box_center", "sphere_center", "ellipsoid_center", "cylinder_a", "capsule_a"):
            getattr(scene, name)[:] = 0
        for name in ("cylinder_b", "capsule_b"):
            getattr(scene, name)[:] = rng.normal(0, 0.5, 3)
        middle = np.zeros(3)
        if kind in ("cylinders", "capsules"):
            b = (scene.cylinder_b if kind == "cylinders" else scene.capsule_b)[0, 0]
            middle = b * rng.uniform(0.05, 0.95)
        poses = [(middle + rng.normal(0, 0.01, 3), random_rotation(rng)) for _ in range(3)]
        bad, pixels = compare(scene, 0, Camera(40, 40, 100.0), poses)
        wrong, total = wrong + bad, total + pixels
    assert wrong <= total / 1000


@pytest.mark.parametrize("kind", ["cylinders", "capsules"])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_camera_in_a_rod_between_its_ends_misses_none_of_it(kind, side):
    """Both ends are in front, and it is in neither: it is 0.49 m from the axis, within 0.5."""
    scene = Scene(1, **{kind: 1})
    name = kind[:-1]
    getattr(scene, f"{name}_a")[0, 0] = (0.1, 0.5 * side, 0.0)
    getattr(scene, f"{name}_b")[0, 0] = (2.0, -0.5 * side, 0.0)
    getattr(scene, f"{name}_radius")[0, 0] = 0.5
    eye = np.zeros(3)
    pose = (eye, look_at(eye, (1.0, 0.0, 0.0)))
    wrong, pixels = compare(scene, 0, Camera(64, 36, 100.0), [pose])
    assert wrong <= pixels / 200


@pytest.mark.parametrize("kind", ["cylinders", "capsules"])
def test_depth_is_mujocos_along_an_axis(kind):
    """In line with a rod, within its infinite extension: only its end can be seen."""
    scene = Scene(1, **{kind: 1})
    name = kind[:-1]
    getattr(scene, f"{name}_a")[0, 0] = (1.0, 0.0, 0.0)
    getattr(scene, f"{name}_b")[0, 0] = (2.0, 0.1, 0.05)
    getattr(scene, f"{name}_radius")[0, 0] = 0.3
    poses = []
    for eye in ((0.2, 0.0, 0.0), (0.0, -0.15, 0.1), (3.0, 0.2, 0.1), (4.0, 0.1, 0.2)):
        poses.append((np.array(eye), look_at(eye, (1.5, 0.1, 0.0))))
    wrong, total = compare(scene, 0, Camera(60, 45, 60.0), poses)
    assert wrong <= total / 1000


@pytest.mark.parametrize("name", ["walls", "poles", "people"])
def test_depth_is_mujocos_in_the_hallways(name):
    """What the benchmark times is right, groups of capsules included."""
    scene = make_scene(name, 3, seed=1)
    camera = Camera()
    wrong = total = 0
    for k in range(3):
        eyes = [(1.0 + 5 * k, 0.3, 0.15), (2.0, -1.0, 0.2), (8.0, 0.0, 1.7)]
        poses = [(np.array(e), look_at(e, (e[0] + 1, e[1] + 0.1 * k, e[2] - 0.4))) for e in eyes]
        bad, pixels = compare(scene, k, camera, poses)
        wrong, total = wrong + bad, total + pixels
    assert wrong <= total / 1000


def test_absent_primitives_are_not_seen():
    rng = np.random.default_rng(0)
    scene = random_scene(rng, KINDS)
    scene.plane_normal[:] = 0
    for name in ("box_half", "ellipsoid_radii"):
        getattr(scene, name)[..., 1] = -1
    for name in ("cylinder_radius", "capsule_radius", "sphere_radius"):
        getattr(scene, name)[:] = 0
    for _ in range(4):
        pose = rng.uniform(-3, 3, 3), random_rotation(rng)
        assert np.isinf(Camera().depth(scene, *pose)).all()
        assert (Camera().depth_image(scene, *pose) == 255).all()


def test_absent_group_hides_its_capsules():
    scene = make_scene("people", 1)
    eye = np.array([0.0, 0.0, 1.0])
    pose = eye, look_at(eye, (5.0, 0.0, 0.5))
    empty = make_scene("people", 1)
    empty.capsule_radius[:] = 0
    everyone = Camera().depth(scene, *pose)
    scene.group_radius[:] = 0
    nobody = Camera().depth(scene, *pose)
    np.testing.assert_array_equal(nobody, Camera().depth(empty, *pose))
    assert (everyone < nobody).any()


def test_beyond_the_range_there_is_nothing():
    scene = Scene(1, spheres=2)
    scene.sphere_center[0] = [(5, 0, 0), (12, 0, 3)]
    scene.sphere_radius[:] = 1.0
    pose = np.zeros(3), look_at((0, 0, 0), (1, 0, 0))
    near = Camera(21, 21, 90, max_depth=6.0).depth(scene, *pose)[0]
    far = Camera(21, 21, 90, max_depth=20.0).depth(scene, *pose)[0]
    assert near[10, 10] == pytest.approx(4.0, abs=1e-4)
    assert np.isinf(near[7]).all()
    assert np.isfinite(far[7, 10])


def test_images_are_upright_and_not_mirrored():
    """Row 0 is the top, column 0 the left, for a camera looking along +x with z up (y is left)."""
    pose = np.zeros(3), look_at((0, 0, 0), (1, 0, 0))
    for offset, pixel in (((2, 1, 0), (10, 5)), ((2, 0, 1), (5, 10)), ((2, -1, -1), (15, 15))):
        scene = Scene(1, spheres=1)
        scene.sphere_center[0, 0] = offset
        scene.sphere_radius[:] = 0.1
        depth = Camera(21, 21, 90).depth(scene, *pose)[0]
        assert np.isfinite(depth[pixel])
        assert np.isfinite(depth).sum() < 9


def test_encoding():
    depth = np.array([0.0, 12.0, 13.0, np.inf, 3.0], np.float32)
    assert encode_depth(depth, 12.0).tolist() == [0, 255, 255, 255, 128]
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(encode_depth(decode_depth(values, 12.0), 12.0), values)
    depth = np.linspace(0, 12, 5001, dtype=np.float32)
    code = encode_depth(depth, 12.0)
    bound = 12.0 * (code.astype(float) + 0.25) / 255**2 + 1e-5
    assert (np.abs(decode_depth(code, 12.0) - depth) <= bound).all()


def test_depth_image_is_the_encoded_depth():
    rng = np.random.default_rng(3)
    camera = Camera(max_depth=7.0)
    scene = random_scene(rng, KINDS)
    for _ in range(5):
        pose = rng.uniform(-3, 3, 3), random_rotation(rng)
        image = camera.depth_image(scene, *pose).astype(int)
        expected = encode_depth(camera.depth(scene, *pose), 7.0).astype(int)
        assert (image != expected).mean() < 1e-3  # ties between two values may round either way
        assert np.abs(image - expected).max() <= 1


def hue_scene() -> tuple[Scene, tuple[np.ndarray, np.ndarray], dict[int, tuple[int, int, int]]]:
    """One primitive of each kind side by side 4 m ahead, each of its own colour, over a floor."""
    scene = Scene(1, planes=1, boxes=1, cylinders=1, capsules=1, spheres=1, ellipsoids=1)
    scene.plane_normal[0, 0] = (0, 0, 1)
    scene.plane_point[0, 0] = (0, 0, -1)
    y = (2.0, 1.0, 0.0, -1.0, -2.0)
    scene.box_center[0, 0] = (4, y[0], 0)
    scene.box_half[:] = 0.4
    scene.cylinder_a[0, 0], scene.cylinder_b[0, 0] = (4, y[1], -0.5), (4, y[1], 0.5)
    scene.capsule_a[0, 0], scene.capsule_b[0, 0] = (4, y[2], -0.5), (4, y[2], 0.5)
    scene.sphere_center[0, 0] = (4, y[3], 0)
    scene.ellipsoid_center[0, 0] = (4, y[4], 0)
    scene.ellipsoid_radii[0, 0] = (0.3, 0.4, 0.5)
    for name in ("cylinder", "capsule", "sphere"):
        getattr(scene, f"{name}_radius")[:] = 0.3
    paint = [(200, 20, 20), (20, 200, 20), (20, 20, 200), (200, 200, 20), (200, 20, 200)]
    for name, color in zip(
        ("box", "cylinder", "capsule", "sphere", "ellipsoid"), paint, strict=True
    ):
        getattr(scene, f"{name}_color")[:] = color
    columns = [round(50 - 50 * place / 4) for place in y]
    pose = np.zeros(3), look_at((0, 0, 0), (1, 0, 0))
    return scene, pose, dict(zip(columns, paint, strict=True))


@pytest.mark.parametrize("extra", [{}, {"shadows": True, "samples": 2}])
def test_color_shows_what_is_there(extra):
    scene, pose, paint = hue_scene()
    image = Camera(101, 101, 90).color(scene, *pose, **extra)[0].astype(float)
    for column, color in paint.items():
        pixel = image[50, column]
        bright = np.array(color) == 200
        assert pixel[bright].min() > 2.5 * pixel[~bright].max(), (column, pixel)
    sky, floor = image[2, 50], image[95, 50]
    assert sky[2] > sky[0] + 20
    assert np.ptp(floor) < 10
    assert image[95].std(axis=0).min() > 1  # the floor's squares


def test_shadows_only_darken_and_fall_away_from_the_sun():
    scene, pose, _ = hue_scene()
    camera = Camera(101, 101, 90)
    lit = camera.color(scene, *pose)[0].astype(int)
    cast = camera.color(scene, *pose, shadows=True)[0].astype(int)
    assert (cast <= lit).all()
    floor = np.isfinite(camera.depth(scene, *pose)[0])
    assert 0.002 < (cast < lit - 10).any(axis=-1)[floor].mean() < 0.5


@pytest.mark.parametrize("draw", ["depth", "depth_image", "color"])
def test_threads_and_batches_change_nothing(draw):
    scene = make_scene("walls", 5, seed=2)
    position = np.tile([3.0, 0.0, 0.3], (5, 1))
    rotation = np.tile(look_at((3, 0, 0.3), (5, 0.2, 0)), (5, 1, 1))
    one = getattr(Camera(), draw)(scene, position, rotation)
    out = np.empty_like(one)
    for threads in (2, 3, 8):
        out[:] = 7
        assert getattr(Camera(), draw)(scene, position, rotation, out=out, threads=threads) is out
        np.testing.assert_array_equal(out, one)
    alone = getattr(Camera(), draw)(scene.select(3), position[3], rotation[3])
    np.testing.assert_array_equal(alone[0], one[3])


def test_shared_arrays_selections_and_pickles():
    scene = Scene(2, capsules=4, capsule_groups=2)
    ends = np.ones((2, 4, 3), np.float32)
    scene.capsule_a = ends
    ends[1, 2] = 5
    assert scene.select(1).capsule_a[0, 2].tolist() == [5, 5, 5]
    scene.select(-1).capsule_radius[:] = 3
    assert scene.capsule_radius[1].tolist() == [3] * 4
    copy = pickle.loads(pickle.dumps(scene))
    np.testing.assert_array_equal(copy.capsule_a, ends)


def test_bad_input_says_what_would_be_right():
    scene = Scene(2, boxes=1)
    with pytest.raises(SettingError, match=r"float32 array of shape \(2, 1, 3\)"):
        scene.box_half = np.ones((2, 1, 3))
    with pytest.raises(AttributeError, match="no array"):
        scene.box_size = np.ones((2, 1, 3))
    with pytest.raises(SettingError, match="equal groups"):
        Scene(1, capsules=5, capsule_groups=2)
    with pytest.raises(SettingError, match="2 scenes need positions"):
        Camera().depth(scene, np.zeros(3), np.eye(3))
    with pytest.raises(SettingError, match="out must be"):
        Camera().depth(
            scene, np.zeros((2, 3)), np.zeros((2, 3, 3)), out=np.empty((2, 50, 50), np.uint8)
        )
    with pytest.raises(SettingError, match="fovy"):
        Camera(fovy=180)
    with pytest.raises(SettingError, match="max_depth"):
        Camera(max_depth=0)
    with pytest.raises(SettingError, match="pixel"):
        Camera(width=0)


def test_cached_functions_answer_for_all_sources():
    """A compiled function kept on disk is renewed when any file that it calls into changes.

    Looks into numba, which has no public way to say this; fails if numba moves it.
    """
    seen = set()
    for module in pkgutil.walk_packages(envs.__path__, "safetransfer.envs."):
        for function in vars(importlib.import_module(module.name)).values():
            if isinstance(function, Dispatcher):
                home = function.py_func.__module__
                stamp = camera_compiled._STAMP if ".camera." in home else compiled._STAMP
                assert function._cache._cache_file._source_stamp == stamp, function
                seen.add(home)
    assert {"safetransfer.envs.people", "safetransfer.envs.camera.depth"} <= seen


def test_a_source_that_changes_or_comes_in_changes_the_digest(tmp_path):
    (tmp_path / "a.py").write_text("FIRST = 1")
    before = compiled.digest(tmp_path)
    (tmp_path / "a.py").write_text("FIRST = 2")
    changed = compiled.digest(tmp_path)
    (tmp_path / "b.py").write_text("SECOND = 1")
    assert len({before, changed, compiled.digest(tmp_path)}) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_numbers_that_are_none_do_no_harm(bad):
    """A simulation that has blown up must not write outside the image."""
    rng = np.random.default_rng(5)
    kinds = {**KINDS, "capsule_groups": 2}
    good = np.zeros(3), look_at((0, 0, 0), (1, 0, 0))
    for name in random_scene(rng, kinds).arrays._fields:
        scene = random_scene(rng, kinds)
        scene.group_radius[:] = 20
        if getattr(scene, name).dtype == np.float32:
            getattr(scene, name)[:] = bad
            assert not np.isnan(Camera().depth(scene, *good)).any()
            Camera().color(scene, *good)
    scene = random_scene(rng, kinds)
    assert not np.isnan(Camera().depth(scene, np.full(3, bad), good[1])).any()
    assert not np.isnan(Camera().depth(scene, good[0], np.full((3, 3), bad))).any()
