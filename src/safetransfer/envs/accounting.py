"""What one control step earned, what it cost, and whether it was the last."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def account(
    active, qpos, sensors, first_touch, owner, first_touch_only, side_wall_cost,
    reward_per_metre, length, max_steps,
    last_x, steps, touched_now, touched_ever, reward, cost, terminated, truncated,
):  # fmt: skip
    """One control step's reward, cost and ends, added to the call's, in hallways active (N,)."""
    slots = owner.shape[1]
    for n in range(len(active)):
        if not active[n]:
            continue
        touching, newly = False, 0
        for s in range(slots):
            k = owner[n, s]
            if k >= 0 and sensors[n, first_touch + s] > 0:
                touching = True
                touched_now[n, k] = True
                if not touched_ever[n, k]:
                    touched_ever[n, k] = True
                    newly += 1
        side = sensors[n, first_touch + slots] > 0 or sensors[n, first_touch + slots + 1] > 0
        if first_touch_only:
            cost[n] += newly + (side_wall_cost and side)
        elif touching or (side_wall_cost and side):
            cost[n] += 1.0
        x = qpos[n, 0]
        reward[n] += reward_per_metre * (x - last_x[n])
        last_x[n] = x
        steps[n] += 1
        terminated[n] = x >= length
        truncated[n] = steps[n] >= max_steps and not terminated[n]
