"""Colour: what `trace` saw, lit by a sun from behind the left shoulder, the sky and a headlight."""

from __future__ import annotations

import math

import numpy as np

from safetransfer.envs.camera.compiled import inlined, kernel
from safetransfer.envs.camera.depth import trace
from safetransfer.envs.camera.frame import padded, row_table

__all__ = ["trace_color"]

# Towards the sun, unit length, in the world: a hallway's walls get three different tones.
_SUN = (-0.41, 0.35, 0.842)
_HORIZON = (222.0, 229.0, 235.0)
_ZENITH = (132.0, 168.0, 212.0)
_LIFT = 1e-3  # a shadow ray starts this far off its surface, m


@inlined
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def _unit(x, y, z):
    length = math.sqrt(x * x + y * y + z * z)
    scale = 1.0 / length if length > 0.0 else 0.0
    return x * scale, y * scale, z * scale


@inlined
def _minus(p, q):
    return p[0] - q[0], p[1] - q[1], p[2] - q[2]


@inlined
def _column(m, k):
    return m[0, k], m[1, k], m[2, k]


@inlined
def _checker(s, n, k, p, footprint):
    """Brightness of plane k's checker at p, plain where squares are finer than a pixel."""
    side = s.plane_checker[n, k]
    if side <= 0.0:
        return 1.0
    normal = s.plane_normal[n, k]
    o = _minus(p, s.plane_point[n, k])
    x, y = o[0], o[1]
    if abs(normal[0]) > max(abs(normal[1]), abs(normal[2])):
        x = o[2]
    elif abs(normal[1]) > abs(normal[2]):
        y = o[2]
    contrast = 0.09 * min(max(side / (2.0 * footprint) - 0.5, 0.0), 1.0)
    even = (math.floor(x / side) + math.floor(y / side)) % 2 == 0
    return 1.0 + contrast if even else 1.0 - contrast


@inlined
def _box_normal(s, n, k, p):
    """The face whose plane p lies nearest to, relative to nothing but the distance."""
    o = _minus(p, s.box_center[n, k])
    axes, half = s.box_axes[n, k], s.box_half[n, k]
    best, face, side = -math.inf, 0, 1.0
    for m in range(3):
        along = _dot(o, _column(axes, m))
        gap = abs(along) - half[m]
        if gap > best:
            best, face, side = gap, m, (1.0 if along > 0.0 else -1.0)
    x, y, z = _column(axes, face)
    return side * x, side * y, side * z


@kernel
def _rod_normal(a, b, r, flat, p):
    """A capsule, or a cylinder with flat ends."""
    axis = _minus(b, a)
    o = _minus(p, a)
    length = math.sqrt(_dot(axis, axis))
    if length == 0.0:
        return _unit(o[0], o[1], o[2])
    x, y, z = axis[0] / length, axis[1] / length, axis[2] / length
    along = _dot(o, (x, y, z))
    if flat:
        side = _minus(o, (along * x, along * y, along * z))
        outside = max(-along, along - length)
        if outside > math.sqrt(_dot(side, side)) - r:
            return (-x, -y, -z) if along < 0.5 * length else (x, y, z)
    along = min(max(along, 0.0), length)
    return _unit(o[0] - along * x, o[1] - along * y, o[2] - along * z)


@inlined
def _ellipsoid_normal(s, n, k, p):
    o = _minus(p, s.ellipsoid_center[n, k])
    axes, radii = s.ellipsoid_axes[n, k], s.ellipsoid_radii[n, k]
    x, y, z = 0.0, 0.0, 0.0
    for m in range(3):
        e = _column(axes, m)
        g = _dot(o, e) / (radii[m] * radii[m])
        x += g * e[0]
        y += g * e[1]
        z += g * e[2]
    return _unit(x, y, z)


@inlined
def _surface(s, n, number, p, footprint):
    """Colour and outward normal of primitive `number` of scene n at the world point p."""
    k = number - 1
    if k < s.plane_normal.shape[1]:
        normal = s.plane_normal[n, k]
        tone = _checker(s, n, k, p, footprint)
        c = s.plane_color[n, k]
        return (tone * c[0], tone * c[1], tone * c[2]), _unit(normal[0], normal[1], normal[2])
    k -= s.plane_normal.shape[1]
    if k < s.box_half.shape[1]:
        c = s.box_color[n, k]
        return (1.0 * c[0], 1.0 * c[1], 1.0 * c[2]), _box_normal(s, n, k, p)
    k -= s.box_half.shape[1]
    if k < s.cylinder_radius.shape[1]:
        c = s.cylinder_color[n, k]
        normal = _rod_normal(
            s.cylinder_a[n, k], s.cylinder_b[n, k], s.cylinder_radius[n, k], True, p
        )
        return (1.0 * c[0], 1.0 * c[1], 1.0 * c[2]), normal
    k -= s.cylinder_radius.shape[1]
    if k < s.capsule_radius.shape[1]:
        c = s.capsule_color[n, k]
        normal = _rod_normal(s.capsule_a[n, k], s.capsule_b[n, k], s.capsule_radius[n, k], False, p)
        return (1.0 * c[0], 1.0 * c[1], 1.0 * c[2]), normal
    k -= s.capsule_radius.shape[1]
    if k < s.sphere_radius.shape[1]:
        c = s.sphere_color[n, k]
        o = _minus(p, s.sphere_center[n, k])
        return (1.0 * c[0], 1.0 * c[1], 1.0 * c[2]), _unit(o[0], o[1], o[2])
    k -= s.sphere_radius.shape[1]
    c = s.ellipsoid_color[n, k]
    return (1.0 * c[0], 1.0 * c[1], 1.0 * c[2]), _ellipsoid_normal(s, n, k, p)


@kernel
def _meets_sphere(o, power):
    """Whether the ray from o towards the sun meets a sphere at 0 with |o|^2 - r^2 = power."""
    b = _dot(o, _SUN)
    return b < 0.0 and b * b > power


@kernel
def _meets_box(o, axes, half):
    first, last = 0.0, math.inf
    for m in range(3):
        e = _column(axes, m)
        start, speed = _dot(o, e), _dot(_SUN, e)
        if abs(speed) < 1e-9:
            if abs(start) > half[m]:
                return False
            continue
        t0, t1 = (-half[m] - start) / speed, (half[m] - start) / speed
        first, last = max(first, min(t0, t1)), min(last, max(t0, t1))
    return first < last


@kernel
def _meets_rod(o, axis, r, flat):
    """The ray from o towards the sun against a rod from 0 to `axis`."""
    length2 = _dot(axis, axis)
    if length2 == 0.0:
        return (not flat) and _meets_sphere(o, _dot(o, o) - r * r)
    start, speed = _dot(o, axis) / length2, _dot(_SUN, axis) / length2
    p = _minus(o, (start * axis[0], start * axis[1], start * axis[2]))
    d = _minus(_SUN, (speed * axis[0], speed * axis[1], speed * axis[2]))
    a, b, c = _dot(d, d), _dot(p, d), _dot(p, p) - r * r
    if a < 1e-9:
        return c < 0.0 and (speed > 0.0) == (start < 0.5)
    disc = b * b - a * c
    if disc <= 0.0:
        return False
    first = max(0.0, (-b - math.sqrt(disc)) / a)
    last = (-b + math.sqrt(disc)) / a
    if flat:
        if abs(speed) < 1e-9:
            return first < last and 0.0 < start < 1.0
        t0, t1 = -start / speed, (1.0 - start) / speed
        return max(first, min(t0, t1)) < min(last, max(t0, t1))
    if first < last and 0.0 < start + first * speed < 1.0:
        return True
    q = _minus(o, axis)
    return _meets_sphere(o, _dot(o, o) - r * r) or _meets_sphere(q, _dot(q, q) - r * r)


@inlined
def _shadowed(s, n, p):
    """Whether anything but a plane stands between p and the sun."""
    for k in range(s.box_half.shape[1]):
        half = s.box_half[n, k]
        if half[0] > 0.0 and half[1] > 0.0 and half[2] > 0.0:
            o = _minus(p, s.box_center[n, k])
            if _meets_box(o, s.box_axes[n, k], half):
                return True
    for k in range(s.cylinder_radius.shape[1]):
        r = float(s.cylinder_radius[n, k])
        if r > 0.0:
            a = s.cylinder_a[n, k]
            if _meets_rod(_minus(p, a), _minus(s.cylinder_b[n, k], a), r, True):
                return True
    groups = max(s.group_radius.shape[1], 1)
    share = s.capsule_radius.shape[1] // groups
    for g in range(groups):
        if s.group_radius.shape[1] > 0:
            r = float(s.group_radius[n, g])
            o = _minus(p, s.group_center[n, g])
            power = _dot(o, o) - r * r
            if r <= 0.0 or (power > 0.0 and not _meets_sphere(o, power)):
                continue
        for k in range(g * share, (g + 1) * share):
            r = float(s.capsule_radius[n, k])
            if r > 0.0:
                a = s.capsule_a[n, k]
                if _meets_rod(_minus(p, a), _minus(s.capsule_b[n, k], a), r, False):
                    return True
    for k in range(s.sphere_radius.shape[1]):
        r = float(s.sphere_radius[n, k])
        if r > 0.0:
            o = _minus(p, s.sphere_center[n, k])
            if _meets_sphere(o, _dot(o, o) - r * r):
                return True
    for k in range(s.ellipsoid_radii.shape[1]):
        h = s.ellipsoid_radii[n, k]
        if h[0] > 0.0 and h[1] > 0.0 and h[2] > 0.0:
            a, b, c = 0.0, 0.0, -1.0
            o = _minus(p, s.ellipsoid_center[n, k])
            for m in range(3):
                e = _column(s.ellipsoid_axes[n, k], m)
                x, d = _dot(o, e) / h[m], _dot(_SUN, e) / h[m]
                a += d * d
                b += x * d
                c += x * x
            if b < 0.0 and b * b > a * c:
                return True
    return False


@kernel
def trace_color(s, position, rotation, first, last, tangent, reach, shadows, out):
    """Shaded RGB of scenes first..last into out, uint8 (N, H, W, 3)."""
    height, width = out.shape[1], out.shape[2]
    pixel = 2.0 * tangent / height
    frame = (width, height, pixel)
    stride = padded(height)
    rows = row_table(height, pixel)
    near = np.empty(width * stride, np.float32)
    seen = np.empty(width * stride, np.float32)
    ids = np.empty(width * stride, np.int32)
    faces = np.empty((6, 3))
    for n in range(first, last):
        m = rotation[n]
        trace(s, n, position[n], m, frame, reach, rows, near, faces, seen, ids)
        for i in range(height):
            v = rows[i]
            for j in range(width):
                u = pixel * (j + 0.5 - 0.5 * width)
                x = m[0, 0] * u + m[0, 1] * v - m[0, 2]
                y = m[1, 0] * u + m[1, 1] * v - m[1, 2]
                z = m[2, 0] * u + m[2, 1] * v - m[2, 2]
                ray = _unit(x, y, z)
                up = min(max(1.6 * ray[2], 0.0), 1.0)
                number = ids[j * stride + i]
                haze, light, glow = 1.0, 0.0, 0.0
                color = (0.0, 0.0, 0.0)
                if number > 0:
                    t = 1.0 / near[j * stride + i]
                    p = (
                        position[n, 0] + t * x,
                        position[n, 1] + t * y,
                        position[n, 2] + t * z,
                    )
                    color, normal = _surface(s, n, number, p, pixel * t)
                    facing = -_dot(normal, ray)
                    if facing < 0.0:  # seen from within
                        facing = -facing
                        normal = (-normal[0], -normal[1], -normal[2])
                    sun = max(_dot(normal, _SUN), 0.0)
                    if shadows and sun > 0.0:
                        start = (
                            p[0] + _LIFT * normal[0],
                            p[1] + _LIFT * normal[1],
                            p[2] + _LIFT * normal[2],
                        )
                        if _shadowed(s, n, start):
                            sun = 0.0
                    light = 0.40 + 0.10 * normal[2] + 0.16 * facing + 0.50 * sun
                    fade = min(max(2.5 * t / reach - 1.5, 0.0), 1.0)  # from 60% of the range on
                    haze = fade * fade * (3.0 - 2.0 * fade)
                for c in range(3):
                    sky = _HORIZON[c] + up * (_ZENITH[c] - _HORIZON[c])
                    glow = haze * sky + (1.0 - haze) * light * color[c]
                    out[n, i, j, c] = np.uint8(min(max(glow + 0.5, 0.0), 255.0))
