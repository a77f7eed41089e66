"""Rays against primitives, column by column, in inverse depth.

A pixel's ray is eye + t d with d = (u, v, 1) in the camera's right, up and forward directions, so t
is depth along the optical axis. All intersections are solved for w = 1/t (own derivations): the
nearest surface is the greatest w, and

* a plane or a box's face is linear in (u, v), without a division;
* on a quadric, A t^2 + 2 B t + C = 0 becomes C w^2 + 2 B w + A = 0 with C constant, B linear and A
  quadratic in (u, v), so w = b + sqrt(b^2 - A/C) with b = -B/C: one square root. For a camera
  outside (C > 0) that is the near surface, inside (C < 0) the far one, as in MuJoCo's ray caster.

Coefficients are computed in float64 and expanded about the middle of a primitive before they
are rounded to float32, which keeps errors far below a millimetre. Centres, ends and axes that the
functions take are in the camera's coordinates; `near` and `rows` are those of `trace`. Each
returns the window outside of which it has changed nothing.
"""

from __future__ import annotations

import math

from safetransfer.envs.camera.compiled import kernel
from safetransfer.envs.camera.frame import NOWHERE, keep, middle_row, padded, span, window_of
from safetransfer.envs.camera.simd import (
    WIDTH,
    greatest,
    least,
    load,
    root,
    select,
    splat,
)

__all__ = [
    "draw_box",
    "draw_capsule",
    "draw_cylinder",
    "draw_ellipsoid",
    "draw_plane",
    "draw_sphere",
]

_TINY = 1e-9
_WITHIN = 1.01  # of a radius: whatever is this near fills the picture


@kernel
def _difference(b, a, c):
    """Coefficients (1, u, v, uu, uv, vv) of b^2 - a/c for b linear, a quadratic."""
    b0, bu, bv = b
    return (
        b0 * b0 - a[0] / c,
        2.0 * b0 * bu - a[1] / c,
        2.0 * b0 * bv - a[2] / c,
        bu * bu - a[3] / c,
        2.0 * bu * bv - a[4] / c,
        bv * bv - a[5] / c,
    )


@kernel
def _along_column(q, u, v):
    """The quadratic q at column u as (constant, linear, square) in the distance from row v."""
    linear = q[2] + q[4] * u
    constant = q[0] + u * (q[1] + q[3] * u)
    return constant + v * (linear + v * q[5]), linear + 2.0 * v * q[5], q[5]


@kernel
def draw_plane(frame, rows, near, normal, point):
    """w = n.d / n.p, positive where the ray runs against the normal."""
    width, height, pixel = frame
    facing = normal[0] * point[0] + normal[1] * point[1] + normal[2] * point[2]
    if facing >= 0.0:  # seen from behind, or absent
        return NOWHERE
    stride = padded(height)
    a, b, c = normal[0] / facing, normal[1] / facing, normal[2] / facing
    slope = splat(b)
    for j in range(width):
        here = splat(c + a * pixel * (j + 0.5 - 0.5 * width))
        for i in range(0, stride, WIDTH):
            keep(near, j * stride + i, here + slope * load(rows, i))
    return 0, width, 0, stride


@kernel
def _box_window(frame, c, ax, ay, az):
    """Window of a box with centre c and half-axis vectors ax, ay, az, cut at the camera plane."""
    cut = 1e-4
    u0, u1, v0, v1 = math.inf, -math.inf, math.inf, -math.inf
    for corner in range(8):
        sx = 1.0 if corner & 1 else -1.0
        sy = 1.0 if corner & 2 else -1.0
        sz = 1.0 if corner & 4 else -1.0
        x = c[0] + sx * ax[0] + sy * ay[0] + sz * az[0]
        y = c[1] + sx * ax[1] + sy * ay[1] + sz * az[1]
        z = c[2] + sx * ax[2] + sy * ay[2] + sz * az[2]
        if z >= cut:
            u, v = x / z, y / z
            u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
            continue
        for k in range(3):  # the edges to corners in front
            e = ax if k == 0 else (ay if k == 1 else az)
            s = -2.0 * (sx if k == 0 else (sy if k == 1 else sz))
            if z + s * e[2] >= cut:
                t = (cut - z) / e[2]
                u, v = (x + t * e[0]) / cut, (y + t * e[1]) / cut
                u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    if u1 < u0:
        return NOWHERE
    return window_of(frame, u0, u1, v0, v1)


@kernel
def draw_box(frame, rows, near, faces, c, half, ax, ay, az):
    """Slabs: inside while past every entry and before every exit, t = 1/w turning max into min."""
    pixel = frame[2]
    j0, j1, i0, i1 = _box_window(
        frame,
        c,
        (half[0] * ax[0], half[0] * ax[1], half[0] * ax[2]),
        (half[1] * ay[0], half[1] * ay[1], half[1] * ay[2]),
        (half[2] * az[0], half[2] * az[1], half[2] * az[2]),
    )
    if j1 == j0:
        return NOWHERE
    entries = 0
    exits = 6
    for k in range(3):
        e = ax if k == 0 else (ay if k == 1 else az)
        o = -(c[0] * e[0] + c[1] * e[1] + c[2] * e[2])
        ahead = half[k] - o  # signed distance to the face on the axis' far side
        behind = -half[k] - o
        if abs(ahead) < _TINY:
            ahead = -_TINY
        if abs(behind) < _TINY:
            behind = _TINY
        near_face, far_face = ahead, behind  # the camera beyond the far side enters there
        if o < 0.0:
            near_face, far_face = behind, ahead
        if ahead * behind > 0.0:
            at = entries
            entries += 1
        else:
            exits -= 1
            at = exits
        for m in range(3):
            faces[at, m] = e[m] / near_face
        exits -= 1
        for m in range(3):
            faces[exits, m] = e[m] / far_face
    stride = padded(frame[1])
    s0, s1, s2 = splat(faces[0, 1]), splat(faces[1, 1]), splat(faces[2, 1])
    s3, s4, s5 = splat(faces[3, 1]), splat(faces[4, 1]), splat(faces[5, 1])
    nothing = splat(0.0)
    for j in range(j0, j1):
        u = pixel * (j + 0.5 - 0.5 * frame[0])
        c0 = splat(faces[0, 2] + faces[0, 0] * u)
        c1 = splat(faces[1, 2] + faces[1, 0] * u)
        c2 = splat(faces[2, 2] + faces[2, 0] * u)
        c3 = splat(faces[3, 2] + faces[3, 0] * u)
        c4 = splat(faces[4, 2] + faces[4, 0] * u)
        c5 = splat(faces[5, 2] + faces[5, 0] * u)
        for i in range(i0, i1, WIDTH):
            v = load(rows, i)
            f0, f1, f2 = c0 + s0 * v, c1 + s1 * v, c2 + s2 * v
            leave = greatest(greatest(c3 + s3 * v, c4 + s4 * v), c5 + s5 * v)
            if entries == 1:
                enter = f0
                leave = greatest(leave, greatest(f1, f2))
            elif entries == 2:
                enter = least(f0, f1)
                leave = greatest(leave, f2)
            elif entries == 3:
                enter = least(least(f0, f1), f2)
            else:
                leave = greatest(greatest(leave, f0), greatest(f1, f2))
                enter = leave
            w = select(enter >= leave, enter, nothing)
            keep(near, j * stride + i, w)
    return j0, j1, i0, i1


@kernel
def _sphere_terms(c, r):
    """b and b^2 - A/C of a sphere: with o = -c, C = |o|^2 - r^2, B = o.d, A = d.d."""
    power = c[0] * c[0] + c[1] * c[1] + c[2] * c[2] - r * r
    if abs(power) < _TINY:
        power = _TINY
    b = (c[2] / power, c[0] / power, c[1] / power)
    return b, _difference(b, (1.0, 0.0, 0.0, 1.0, 0.0, 1.0), power)


@kernel
def _draw_ball(frame, rows, near, window, b, q):
    """A sphere or an ellipsoid: w = b + sqrt(q)."""
    j0, j1, i0, i1 = window
    stride = padded(frame[1])
    v = middle_row(frame, i0, i1)
    middle = splat(v)
    nothing = splat(0.0)
    b1 = splat(b[2])
    for j in range(j0, j1):
        u = frame[2] * (j + 0.5 - 0.5 * frame[0])
        b0 = splat(b[0] + b[1] * u + b[2] * v)
        constant, linear, square = _along_column(q, u, v)
        q0, q1, q2 = splat(constant), splat(linear), splat(square)
        for i in range(i0, i1, WIDTH):
            x = load(rows, i) - middle
            d = q0 + x * (q1 + x * q2)
            w = select(d >= nothing, b0 + b1 * x + root(d), nothing)
            keep(near, j * stride + i, w)
    return window


@kernel
def draw_sphere(frame, rows, near, reach, c, r):
    """A sphere with centre c (camera frame) and radius r."""
    if c[2] + r <= 0.0 or c[2] - r >= reach:
        return NOWHERE
    u0, u1 = span(c[0], c[2], r)
    v0, v1 = span(c[1], c[2], r)
    window = window_of(frame, u0, u1, v0, v1)
    if window[1] == window[0]:
        return NOWHERE
    b, q = _sphere_terms(c, r)
    return _draw_ball(frame, rows, near, window, b, q)


@kernel
def draw_ellipsoid(frame, rows, near, reach, c, radii, ax, ay, az):
    """The unit sphere in coordinates scaled by the radii."""
    extent = max(radii[0], max(radii[1], radii[2]))
    if c[2] + extent <= 0.0 or c[2] - extent >= reach:
        return NOWHERE
    u0, u1 = span(c[0], c[2], extent)
    v0, v1 = span(c[1], c[2], extent)
    window = window_of(frame, u0, u1, v0, v1)
    if window[1] == window[0]:
        return NOWHERE
    # A = d'G d, B = -c'G d, C = c'G c - 1 with G = sum of axis axis' / radius^2
    b0, bu, bv, power = 0.0, 0.0, 0.0, -1.0
    a0, au, av, auu, auv, avv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(3):
        e = ax if k == 0 else (ay if k == 1 else az)
        x, y, z = e[0] / radii[k], e[1] / radii[k], e[2] / radii[k]
        o = c[0] * x + c[1] * y + c[2] * z
        power += o * o
        b0 += o * z
        bu += o * x
        bv += o * y
        a0 += z * z
        au += 2.0 * x * z
        av += 2.0 * y * z
        auu += x * x
        auv += 2.0 * x * y
        avv += y * y
    if abs(power) < _TINY:
        power = _TINY
    b = (b0 / power, bu / power, bv / power)
    q = _difference(b, (a0, au, av, auu, auv, avv), power)
    return _draw_ball(frame, rows, near, window, b, q)


@kernel
def _distance_to_segment(a, b):
    """Of the camera from the segment from a to b."""
    x, y, z = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    length = x * x + y * y + z * z
    t = -(a[0] * x + a[1] * y + a[2] * z) / max(length, _TINY)
    t = min(max(t, 0.0), 1.0)
    px, py, pz = a[0] + t * x, a[1] + t * y, a[2] + t * z
    return math.sqrt(px * px + py * py + pz * pz)


@kernel
def _rod_window(frame, reach, a, b, r):
    """Window of a capsule; empty if it is wholly behind the camera or out of reach."""
    if max(a[2], b[2]) + r <= 0.0 or min(a[2], b[2]) - r >= reach:
        return NOWHERE
    if a[2] <= 0.0 or b[2] <= 0.0:  # it may wrap around the camera
        return window_of(frame, -math.inf, math.inf, -math.inf, math.inf)
    if min(a[2], b[2]) <= _WITHIN * r and _distance_to_segment(a, b) <= _WITHIN * r:
        # The camera is in it or touches it, between ends that it is in neither of.
        return window_of(frame, -math.inf, math.inf, -math.inf, math.inf)
    u0, u1 = span(a[0], a[2], r)
    u2, u3 = span(b[0], b[2], r)
    v0, v1 = span(a[1], a[2], r)
    v2, v3 = span(b[1], b[2], r)
    return window_of(frame, min(u0, u2), max(u1, u3), min(v0, v2), max(v1, v3))


@kernel
def _tube_terms(a, s, r):
    """Infinite cylinder through a along the unit vector s: C, b, and b^2 - A/C.

    With o = -a: C = |o|^2 - (o.s)^2 - r^2, B = o.d - (o.s)(d.s), A = d.d - (d.s)^2.
    """
    start = -(a[0] * s[0] + a[1] * s[1] + a[2] * s[2])
    px, py, pz = a[0] + start * s[0], a[1] + start * s[1], a[2] + start * s[2]
    power = px * px + py * py + pz * pz - r * r
    if abs(power) < _TINY:
        power = _TINY
    b = (pz / power, px / power, py / power)
    around = (
        1.0 - s[2] * s[2],
        -2.0 * s[0] * s[2],
        -2.0 * s[1] * s[2],
        1.0 - s[0] * s[0],
        -2.0 * s[0] * s[1],
        1.0 - s[1] * s[1],
    )
    return power, start, b, _difference(b, around, power)


@kernel
def draw_capsule(frame, rows, near, reach, a, b, r):
    """The infinite cylinder where it is hit between the ends, else the sphere at that end."""
    window = _rod_window(frame, reach, a, b, r)
    j0, j1, i0, i1 = window
    if j1 == j0:
        return NOWHERE
    sx, sy, sz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    length = math.sqrt(sx * sx + sy * sy + sz * sz)
    if length < 1e-6:
        ball, q = _sphere_terms(a, r)
        return _draw_ball(frame, rows, near, window, ball, q)
    s = (sx / length, sy / length, sz / length)
    power, start, tube, q = _tube_terms(a, s, r)
    past = start - min(max(start, 0.0), length)
    inside = power < 0.0
    if inside and past * past + power > 0.0:
        # In line with the axis but outside: only the sphere at this end can be entered.
        ball, q = _sphere_terms(a if start < 0.0 else b, r)
        return _draw_ball(frame, rows, near, window, ball, q)
    end_a, qa = _sphere_terms(a, r)
    end_b, qb = _sphere_terms(b, r)
    # From within, the far side of an end's sphere counts, also if that sphere lies ahead.
    far_a = splat(-1.0 if start * start + power > 0.0 else 1.0)
    far_b = splat(-1.0 if (start - length) * (start - length) + power > 0.0 else 1.0)
    stride = padded(frame[1])
    v = middle_row(frame, i0, i1)
    middle = splat(v)
    nothing = splat(0.0)
    t1, a1, b1 = splat(tube[2]), splat(end_a[2]), splat(end_b[2])
    h1, begin, size = splat(s[1]), splat(start), splat(length)
    for j in range(j0, j1):
        u = frame[2] * (j + 0.5 - 0.5 * frame[0])
        t0 = splat(tube[0] + tube[1] * u + tube[2] * v)
        a0 = splat(end_a[0] + end_a[1] * u + end_a[2] * v)
        b0 = splat(end_b[0] + end_b[1] * u + end_b[2] * v)
        h0 = splat(s[2] + s[0] * u + s[1] * v)
        constant, linear, square = _along_column(q, u, v)
        q0, q1, q2 = splat(constant), splat(linear), splat(square)
        constant, linear, square = _along_column(qa, u, v)
        qa0, qa1, qa2 = splat(constant), splat(linear), splat(square)
        constant, linear, square = _along_column(qb, u, v)
        qb0, qb1, qb2 = splat(constant), splat(linear), splat(square)
        for i in range(i0, i1, WIDTH):
            x = load(rows, i) - middle
            d = q0 + x * (q1 + x * q2)
            side = t0 + t1 * x + root(d)
            height = begin * side + h0 + h1 * x  # along the axis, divided by t
            below = height < nothing
            beyond = (height > size * side) | below
            e = select(below, qa0 + x * (qa1 + x * qa2), qb0 + x * (qb1 + x * qb2))
            end = select(below, a0 + a1 * x, b0 + b1 * x)
            end = end + (select(below, far_a, far_b) * root(e) if inside else root(e))
            w = select(beyond, end, side)
            # A root of a negative number is not a number, and `keep` keeps only greater ones.
            keep(near, j * stride + i, select(d >= nothing, w, nothing))
    return window


@kernel
def draw_cylinder(frame, rows, near, reach, a, b, r):
    """The infinite cylinder between the ends, and the one end that can be entered.

    A point of the plane of an end lies within the disc iff (w - b)^2 <= b^2 - A/C (for C > 0).
    """
    window = _rod_window(frame, reach, a, b, r)
    j0, j1, i0, i1 = window
    if j1 == j0:
        return NOWHERE
    sx, sy, sz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    length = math.sqrt(sx * sx + sy * sy + sz * sz)
    if length < 1e-6:
        return NOWHERE
    s = (sx / length, sy / length, sz / length)
    power, start, tube, q = _tube_terms(a, s, r)
    inside = power < 0.0 and 0.0 <= start <= length
    capped = start < 0.0 or start > length
    # The end's plane: (start - offset) w + d.s = 0.
    depth = start if start < 0.0 else start - length
    if not capped:
        depth = 1.0
    low = max(start, _TINY)
    high = max(length - start, _TINY)
    sign = splat(1.0 if power > 0.0 else -1.0)
    stride = padded(frame[1])
    v = middle_row(frame, i0, i1)
    middle = splat(v)
    nothing = splat(0.0)
    t1, h1, begin, size = splat(tube[2]), splat(s[1]), splat(start), splat(length)
    cap1, low1, high1 = splat(-s[1] / depth), splat(-s[1] / low), splat(s[1] / high)
    for j in range(j0, j1):
        u = frame[2] * (j + 0.5 - 0.5 * frame[0])
        along = s[2] + s[0] * u + s[1] * v
        t0 = splat(tube[0] + tube[1] * u + tube[2] * v)
        h0 = splat(along)
        cap0, low0, high0 = splat(-along / depth), splat(-along / low), splat(along / high)
        constant, linear, square = _along_column(q, u, v)
        q0, q1, q2 = splat(constant), splat(linear), splat(square)
        for i in range(i0, i1, WIDTH):
            x = load(rows, i) - middle
            d = q0 + x * (q1 + x * q2)
            axis = t0 + t1 * x
            side = axis + root(d)
            if inside:
                w = greatest(side, greatest(low0 + low1 * x, high0 + high1 * x))
            else:
                height = begin * side + h0 + h1 * x
                w = select(
                    (height >= nothing) & (height <= size * side) & (d >= nothing), side, nothing
                )
                if capped:
                    cap = cap0 + cap1 * x
                    off = cap - axis
                    w = greatest(select(sign * (off * off - d) <= nothing, cap, nothing), w)
            keep(near, j * stride + i, w)
    return window
