"""What was touched, what one control step earned and cost, and whether it was the last."""

from __future__ import annotations

from safetransfer.envs.compiled import kernel


@kernel
def note_touches(
    active, sensors, first_touch, owner,
    touched_now, touched_ever, first_touches, in_contact, at_side_wall,
):  # fmt: skip
    """Note what the contact sensors say in hallways active (N,).

    `touched_now` and `touched_ever` (N, obstacles) say which obstacle; `first_touches` (N,) counts
    those that are new to the episode, `in_contact` and `at_side_wall` (N,) say whether there were
    any: these three are of one control step, and `account` clears them.
    """
    slots = owner.shape[1]
    for n in range(len(active)):
        if not active[n]:
            continue
        for s in range(slots):
            k = owner[n, s]
            if k >= 0 and sensors[n, first_touch + s] > 0:
                in_contact[n] = True
                touched_now[n, k] = True
                if not touched_ever[n, k]:
                    touched_ever[n, k] = True
                    first_touches[n] += 1
        side = first_touch + slots
        if sensors[n, side] > 0 or sensors[n, side + 1] > 0:
            at_side_wall[n] = True


@kernel
def account(
    active, qpos, unstable, first_touches, in_contact, at_side_wall,
    first_touch_only, side_wall_cost, reward_per_metre, length, max_steps,
    last_x, steps, reward, cost, terminated, truncated,
):  # fmt: skip
    """One control step's reward, cost and ends, added to the call's, in hallways active (N,)."""
    for n in range(len(active)):
        if not active[n]:
            continue
        side = side_wall_cost and at_side_wall[n]
        if first_touch_only:
            cost[n] += first_touches[n] + side
        elif in_contact[n] or side:
            cost[n] += 1.0
        first_touches[n], in_contact[n], at_side_wall[n] = 0, False, False
        x = qpos[n, 0]
        reward[n] += reward_per_metre * (x - last_x[n])
        last_x[n] = x
        steps[n] += 1
        terminated[n] = x >= length
        truncated[n] = (steps[n] >= max_steps or unstable[n]) and not terminated[n]
