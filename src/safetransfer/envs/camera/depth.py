"""The depth kernels: every primitive of a scene into a frame, and the frame into an image."""

from __future__ import annotations

import math

import numpy as np

from safetransfer.envs.camera.compiled import kernel
from safetransfer.envs.camera.frame import (
    axes_to_camera,
    claim,
    padded,
    point_to_camera,
    row_table,
    span,
    to_camera,
    window_of,
)
from safetransfer.envs.camera.primitives import (
    draw_box,
    draw_capsule,
    draw_cylinder,
    draw_ellipsoid,
    draw_plane,
    draw_sphere,
)
from safetransfer.envs.camera.simd import WIDTH, load, root, splat, store

__all__ = ["trace", "trace_depth", "trace_image"]


@kernel
def _claim(frame, window, near, seen, ids, number):
    if ids is not None:
        claim(frame[1], window, near, seen, ids, number)


@kernel
def trace(s, n, eye, rotation, frame, reach, rows, near, faces, seen, ids):
    """Fills `near`, float32 (W * padded(H)) and column-major, with 1/depth of scene n of s.

    `frame` is (width, height, size of a pixel at depth 1), `rows` the v of each padded row, `faces`
    scratch (6, 3). What is farther than `reach` leaves 1/reach. `seen` and `ids` are None, or
    scratch like `near` and an int32 array that gets the number of the primitive seen, counted from
    1 through planes, boxes, cylinders, capsules, spheres, ellipsoids; 0 is nothing.
    """
    near[:] = np.float32(1.0 / reach)
    if ids is not None:
        ids[:] = 0
        seen[:] = near
    number = 0
    for k in range(s.plane_normal.shape[1]):
        p = s.plane_normal[n, k]
        number += 1
        normal = to_camera(rotation, p[0], p[1], p[2])
        point = point_to_camera(rotation, eye, s.plane_point[n, k])
        window = draw_plane(frame, rows, near, normal, point)
        _claim(frame, window, near, seen, ids, number)
    for k in range(s.box_half.shape[1]):
        h = s.box_half[n, k]
        number += 1
        if h[0] > 0.0 and h[1] > 0.0 and h[2] > 0.0:
            center = point_to_camera(rotation, eye, s.box_center[n, k])
            half = (float(h[0]), float(h[1]), float(h[2]))
            extent = math.sqrt(half[0] ** 2 + half[1] ** 2 + half[2] ** 2)
            if -extent < center[2] < reach + extent:
                ax, ay, az = axes_to_camera(rotation, s.box_axes[n, k])
                window = draw_box(frame, rows, near, faces, center, half, ax, ay, az)
                _claim(frame, window, near, seen, ids, number)
    for k in range(s.cylinder_radius.shape[1]):
        r = float(s.cylinder_radius[n, k])
        number += 1
        if r > 0.0:
            a = point_to_camera(rotation, eye, s.cylinder_a[n, k])
            b = point_to_camera(rotation, eye, s.cylinder_b[n, k])
            window = draw_cylinder(frame, rows, near, reach, a, b, r)
            _claim(frame, window, near, seen, ids, number)
    groups = s.group_radius.shape[1]
    capsules = s.capsule_radius.shape[1]
    share = capsules // max(groups, 1)
    for g in range(max(groups, 1)):
        if groups > 0:
            r = float(s.group_radius[n, g])
            c = point_to_camera(rotation, eye, s.group_center[n, g])
            if r <= 0.0 or c[2] + r <= 0.0 or c[2] - r >= reach:
                continue
            u0, u1 = span(c[0], c[2], r)
            v0, v1 = span(c[1], c[2], r)
            j0, j1, _, _ = window_of(frame, u0, u1, v0, v1)
            if j1 == j0:
                continue
        for k in range(g * share, (g + 1) * share):
            r = float(s.capsule_radius[n, k])
            if r > 0.0:
                a = point_to_camera(rotation, eye, s.capsule_a[n, k])
                b = point_to_camera(rotation, eye, s.capsule_b[n, k])
                window = draw_capsule(frame, rows, near, reach, a, b, r)
                _claim(frame, window, near, seen, ids, number + k + 1)
    number += capsules
    for k in range(s.sphere_radius.shape[1]):
        r = float(s.sphere_radius[n, k])
        number += 1
        if r > 0.0:
            c = point_to_camera(rotation, eye, s.sphere_center[n, k])
            window = draw_sphere(frame, rows, near, reach, c, r)
            _claim(frame, window, near, seen, ids, number)
    for k in range(s.ellipsoid_radii.shape[1]):
        h = s.ellipsoid_radii[n, k]
        number += 1
        if h[0] > 0.0 and h[1] > 0.0 and h[2] > 0.0:
            c = point_to_camera(rotation, eye, s.ellipsoid_center[n, k])
            radii = (float(h[0]), float(h[1]), float(h[2]))
            ax, ay, az = axes_to_camera(rotation, s.ellipsoid_axes[n, k])
            window = draw_ellipsoid(frame, rows, near, reach, c, radii, ax, ay, az)
            _claim(frame, window, near, seen, ids, number)


@kernel
def trace_depth(s, position, rotation, first, last, tangent, reach, out):
    """Depth in metres of scenes first..last into out, float32 (N, H, W); inf for nothing."""
    height, width = out.shape[1], out.shape[2]
    pixel = 2.0 * tangent / height
    frame = (width, height, pixel)
    stride = padded(height)
    rows = row_table(height, pixel)
    near = np.empty(width * stride, np.float32)
    faces = np.empty((6, 3))
    end = np.float32(1.0 / reach)
    for n in range(first, last):
        trace(s, n, position[n], rotation[n], frame, reach, rows, near, faces, None, None)
        for i in range(height):
            for j in range(width):
                w = near[j * stride + i]
                out[n, i, j] = np.float32(1.0) / w if w > end else np.float32(np.inf)


@kernel
def trace_image(s, position, rotation, first, last, tangent, reach, out):
    """Encoded depth (`encode_depth`) of scenes first..last into out, uint8 (N, H, W)."""
    height, width = out.shape[1], out.shape[2]
    pixel = 2.0 * tangent / height
    frame = (width, height, pixel)
    stride = padded(height)
    rows = row_table(height, pixel)
    near = np.empty(width * stride, np.float32)
    code = np.empty(width * stride, np.uint8)
    faces = np.empty((6, 3))
    end = splat(1.0 / reach)
    for n in range(first, last):
        trace(s, n, position[n], rotation[n], frame, reach, rows, near, faces, None, None)
        for k in range(0, near.size, WIDTH):
            store(near, k, splat(255.0) * root(end / load(near, k)) + splat(0.5))
        for k in range(near.size):
            code[k] = np.uint8(near[k])
        for i in range(height):
            for j in range(width):
                out[n, i, j] = code[j * stride + i]
