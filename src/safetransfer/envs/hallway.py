"""N hallways stepped together, as a Gymnasium vector environment; and one, as an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from mujoco.batch import Batch

from safetransfer.envs.accounting import account, note_touches
from safetransfer.envs.camera import Camera
from safetransfer.envs.film import Filmer
from safetransfer.envs.obstacles import make_course
from safetransfer.envs.robots import make_robot
from safetransfer.envs.settings import HallwaySettings
from safetransfer.envs.world import build_model, build_scene
from safetransfer.errors import CheckpointError, SettingError

_SIMULATION = ("time", "qpos", "qvel", "qacc_warmstart", "ctrl", "mocap_pos", "mocap_quat")
"""The MuJoCo state that an episode depends on (the models have no activations or plugins)."""
_BAD_NUMBERS = slice(
    int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1
)
"""MuJoCo's warnings after which it has put a simulation back to the model's defaults."""

PROPRIO_LIMIT = 1e4
"""Proprioception is clipped to this (a hard bump reads some 100 m/s^2), so that it has a space."""


class HallwayVectorEnv(VectorEnv):
    """`num_envs` hallways, each with its own places, people and stream of random numbers.

    Observation: {"camera": uint8 (N, H, W, C), "proprio": float32 (N, P), SI units}. A depth
    image's value v stands for max_depth * (v / 255)^2 metres (`camera.decode_depth`).
    Action: float32 (N, A) in [-1, 1]; values beyond are clipped.
    Reward: `progress_reward` (1000) * metres forward / length of the hallway.
    `terminated` at the finish, `truncated` after `max_steps` control steps, or in training after
    `fallen_steps` on its back.

    `info`, arrays over the N hallways:
      "cost" (float64) and "touched" (int, how many obstacles) belong to the step, as the reward
      does; "touched_mask" (N, obstacles) says which;
      "unstable" (bool): the simulation broke down in this step, see below;
      "progress" (x, m), "steps" (control steps so far) and "full_start" (the episode began at the
      start line) belong to the returned observation.
    With automatic reset in the same step, `info["final_obs"]` and `info["final_info"]` hold the
    last observation and info of ended episodes, as batched arrays valid where `info["_final_obs"]`;
    with `object_final_obs`, `final_obs` is instead the object array of dicts that Gymnasium's own
    vector environments give.

    With `action_repeat` k, a step holds the action for k control steps (fewer where the episode
    ends): reward and cost are sums, and one picture is taken.

    Contact is looked for every 0.02 s (`Robot.slices`): a control step costs 1 if there was any.

    Where MuJoCo finds that a simulation has run into numbers that are too large or none at all, the
    robot is put back to where the control step began and the episode is truncated. The last
    observation, the reward and the next episode are then as sound as any.

    The results do not depend on `threads`, nor one hallway's on the others.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        settings: HallwaySettings | None = None,
        num_envs: int = 1,
        threads: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        object_final_obs: bool = False,
        render_mode: str | None = None,
    ):
        if num_envs < 1:
            raise SettingError(f"num_envs must be at least 1, not {num_envs}")
        if threads < 1:
            raise SettingError(f"threads must be at least 1, not {threads}")
        if render_mode not in (None, "rgb_array"):
            raise SettingError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.settings = settings = settings or HallwaySettings()
        self.num_envs = num_envs
        self.threads = threads
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.object_final_obs = object_final_obs

        self.robot = make_robot(settings.robot)
        _check_room(settings, self.robot.reach)
        self.course = make_course(settings, self.robot, num_envs)
        self.model = build_model(settings, self.robot, self.course)
        self.batch = Batch(self.model, num_envs, threads)
        self.scene, first_box = build_scene(settings, self.course, num_envs)
        self.course.bind(self.batch, self.scene, first_box)
        self.camera = Camera(
            width=settings.camera_width,
            height=settings.camera_height,
            fovy=self.robot.camera_fovy,
            max_depth=settings.max_depth,
        )
        self._filmer: Filmer | None = None
        self._single_scenes = [self.scene.select(i) for i in range(num_envs)]

        self.metadata = {
            **self.metadata,
            "autoreset_mode": self.autoreset_mode,
            "render_fps": _per_second(self.robot.control_dt * settings.action_repeat),
        }
        channels = 3 if settings.camera == "rgb" else 1
        picture = (settings.camera_height, settings.camera_width, channels)
        self.single_observation_space = gymnasium.spaces.Dict(
            {
                "camera": gymnasium.spaces.Box(0, 255, picture, np.uint8),
                "proprio": gymnasium.spaces.Box(
                    -PROPRIO_LIMIT, PROPRIO_LIMIT, (self.robot.proprio_size,), np.float32
                ),
            }
        )
        self.single_action_space = gymnasium.spaces.Box(
            -1.0, 1.0, (self.robot.action_size,), np.float32
        )
        self._picture_shape = (num_envs, *picture)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._state = {name: self.batch.bind(name) for name in _SIMULATION}
        self._qpos, self._ctrl = self._state["qpos"], self._state["ctrl"]
        self._sensors = self.batch.bind("sensordata")
        self._first_touch = int(np.sum(self.model.sensor_dim)) - self.course.slots - 2

        n, obstacles = num_envs, self.course.count
        self._rngs: list[np.random.Generator] = []
        self._proprio = np.zeros((n, self.robot.proprio_size), np.float32)
        self._x = np.zeros(n)
        self._steps = np.zeros(n, np.int64)
        self._full_start = np.ones(n, np.bool_)
        self._on_back = np.zeros(n, np.int64)  # control steps that it has been lying there
        self._touched_now = np.zeros((n, obstacles), np.bool_)
        self._touched_ever = np.zeros((n, obstacles), np.bool_)
        self._first_touches = np.zeros(n, np.int64)
        self._in_contact = np.zeros(n, np.bool_)
        self._at_side_wall = np.zeros(n, np.bool_)
        self._unstable = np.zeros(n, np.bool_)
        self._done = np.zeros(n, np.bool_)
        self._resting = np.zeros(n, np.bool_)
        self._reward = np.zeros(n)
        self._cost = np.zeros(n)
        self._terminated = np.zeros(n, np.bool_)
        self._truncated = np.zeros(n, np.bool_)

    @property
    def mocap(self) -> dict[str, Any] | None:
        """What clips the people move by (`ClipLibrary.describe`); None without people."""
        crowd = getattr(self.course, "crowd", None)
        return None if crowd is None else crowd.library.describe()

    # --- Gymnasium's interface -------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode in every hallway, or in those of options["reset_mask"] (N,) bool.

        `seed` starts the streams of random numbers anew: hallway i draws from the i-th child of
        SeedSequence(seed), or, for a list, as a single hallway of seed[i] (None: go on).
        """
        mask = self._reset_mask(options)
        self._seed(seed, mask)
        self._begin(mask)
        self._cost[mask] = 0.0
        self._touched_now[mask] = False
        self._unstable[mask] = False
        self._done[mask] = self._resting[mask] = False
        return self._observe(), self._info()

    def rest(self, mask: np.ndarray) -> None:
        """From now on, let steps leave hallways mask (N,) bool as they are, with no reward and no
        cost, until they are reset: nobody needs their episodes, and each costs as much as any."""
        self._resting |= mask

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Hold `actions` (N, A) for `action_repeat` control steps. See the class for the rest."""
        if not self._rngs:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        if self._done.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            ended = np.flatnonzero(self._done).tolist()
            raise gymnasium.error.ResetNeeded(
                f"the episodes of hallways {ended} have ended: reset them with options"
                '={"reset_mask": ...} first, or use another autoreset mode'
            )
        restart = self._done.copy()
        self._set_controls(actions)
        self._advance(~(restart | self._resting))
        if restart.any():
            self._begin(restart)
        self._done = self._terminated | self._truncated

        observation = self._observe()
        info = self._info()
        result = self._reward.copy(), self._terminated.copy(), self._truncated.copy()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._done.any():
            self._restart_ended(observation, info)
        return observation, *result, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture from behind each robot, uint8 (360, 480, 3) each; None without a mode."""
        if self.render_mode is None:
            return None
        return tuple(self.film_frame(i) for i in range(self.num_envs))

    def film_frame(
        self, i: int, view: str = "behind", width: int = 480, height: int = 360
    ) -> np.ndarray:
        """Hallway i as it is now, uint8 (height, width, 3), from "first", "behind" or "above"."""
        if self._filmer is None:
            self._filmer = Filmer(self)
        return self._filmer.frame(i, view, width, height)

    # --- one step --------------------------------------------------------------------------------

    def _set_controls(self, actions: np.ndarray) -> None:
        actions = np.asarray(actions)
        if actions.shape != self._ctrl.shape:
            raise ValueError(f"actions have shape {actions.shape}, not {self._ctrl.shape}")
        if not np.isfinite(actions).all():
            rows = np.flatnonzero(~np.isfinite(actions).all(axis=1)).tolist()
            raise ValueError(f"actions of hallways {rows} are not finite numbers")
        np.clip(actions, -1.0, 1.0, out=self._ctrl)

    def _advance(self, active: np.ndarray) -> None:
        """Run up to `action_repeat` control steps in hallways active (N,), summing the outcome."""
        for outcome in (
            self._reward, self._cost, self._terminated, self._truncated, self._unstable,
            self._touched_now,
        ):  # fmt: skip
            outcome[:] = 0
        for _ in range(self.settings.action_repeat):
            if not active.any():
                break
            self._control_step(active)
            self._account(active)
            active = active & ~(self._terminated | self._truncated)
        self._sense()

    def _control_step(self, active: np.ndarray) -> None:
        """Simulate one control step of hallways active (N,), and note what was touched."""
        slices = self.robot.slices
        begun = {name: value.copy() for name, value in self._state.items()}
        warnings = self._bad_numbers()
        running = active
        for _ in range(slices):
            self.course.advance(running)
            self.course.fill_slots(running, self.robot.position(self._qpos))
            self.batch.step(
                ids=None if running.all() else np.flatnonzero(running),
                nstep=self.robot.substeps // slices,
            )
            broken = running & (self._bad_numbers() != warnings)
            if broken.any():
                self._put_back(broken, begun)
                running = running & ~broken
                if not running.any():
                    break
            note_touches(
                running,
                self._sensors,
                self._first_touch,
                self.course.owner,
                self._touched_now,
                self._touched_ever,
                self._first_touches,
                self._in_contact,
                self._at_side_wall,
            )

    def _bad_numbers(self) -> np.ndarray:
        """How often each simulation has run into numbers that MuJoCo doesn't go on with, (N,)."""
        return self.batch.warning[:, _BAD_NUMBERS, 1].sum(axis=1)

    def _put_back(self, broken: np.ndarray, begun: dict[str, np.ndarray]) -> None:
        """Give hallways broken (N,) back the state in which the control step began."""
        for name, value in self._state.items():
            value[broken] = begun[name][broken]
        self.batch.forward(np.flatnonzero(broken))
        self._unstable |= broken

    def _account(self, active: np.ndarray) -> None:
        """Reward, cost and ends of one control step."""
        settings = self.settings
        account(
            active,
            self._qpos,
            self._unstable,
            self._first_touches,
            self._in_contact,
            self._at_side_wall,
            self.course.first_touch_only,
            settings.side_wall_cost,
            settings.progress_reward / settings.length,
            settings.length,
            settings.max_steps,
            self._x,
            self._steps,
            self._reward,
            self._cost,
            self._terminated,
            self._truncated,
        )
        if settings.fallen_steps:
            self._cut_off_fallen(active)

    def _cut_off_fallen(self, active: np.ndarray) -> None:
        """Truncate the episodes of robots that lie on their backs and don't get up again."""
        on_back = self.robot.pose(self._qpos)[1][:, 2, 2] < 0
        self._on_back[active] += 1
        self._on_back[active & ~on_back] = 0
        cut = active & ~self._terminated & (self._on_back >= self.settings.fallen_steps)
        self._truncated |= cut

    def _restart_ended(self, observation: dict[str, np.ndarray], info: dict[str, Any]) -> None:
        """Same-step reset: keep what the ended episodes saw last, and begin the next ones."""
        ended = self._done.copy()
        final_info = {key: value.copy() for key, value in info.items()}
        final = {key: value.copy() for key, value in observation.items()}
        self._begin(ended)
        self._done[:] = False
        indices = np.flatnonzero(ended).tolist()
        for i in indices:
            self._take_picture(observation["camera"], i)
        observation["proprio"][ended] = self._proprio[ended]
        info.update(self._position_info())
        if self.object_final_obs:
            rows = np.full(self.num_envs, None, dtype=object)
            for i in indices:
                rows[i] = {key: value[i] for key, value in final.items()}
            info["final_obs"] = rows
        else:
            info["final_obs"] = final
        info["final_info"] = final_info
        info["_final_obs"] = info["_final_info"] = ended

    # --- beginning an episode --------------------------------------------------------------------

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError("options['reset_mask'] must be a numpy array of bool")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and a True value"
            )
        return mask

    def _seed(self, seed: int | list[int | None] | None, mask: np.ndarray) -> None:
        if seed is None and self._rngs:
            return
        if seed is None or isinstance(seed, (int, np.integer)):
            if seed is not None:
                super().reset(seed=int(seed))
            children = np.random.SeedSequence(seed).spawn(self.num_envs)
            fresh = [np.random.default_rng(child) for child in children]
        else:
            if len(seed) != self.num_envs:
                raise ValueError(f"{len(seed)} seeds for {self.num_envs} hallways")
            streams = [np.random.SeedSequence(s).spawn(1)[0] for s in seed]
            fresh = [np.random.default_rng(stream) for stream in streams]
            if self._rngs:
                fresh = [
                    old if s is None else new
                    for s, old, new in zip(seed, self._rngs, fresh, strict=True)
                ]
        if not self._rngs:
            self._rngs = fresh
        else:
            for i in np.flatnonzero(mask):
                self._rngs[i] = fresh[i]

    def _begin(self, mask: np.ndarray) -> None:
        """Begin an episode in hallways mask (N,): draw places and starts, set the robot down."""
        ids = np.flatnonzero(mask)
        self.batch.reset(ids, stage=0)
        starts = np.zeros((self.num_envs, 2))
        for i in ids.tolist():
            self.course.draw(i, self._rngs[i])
            x, y, heading = self._draw_start(i)
            starts[i] = x, y
            self.robot.place(self._qpos[i], x, y, heading)
        self.course.settle(mask, self._rngs, starts)
        self.course.fill_slots(mask, self.robot.position(self._qpos))
        self.batch.forward(ids)
        self._x[ids] = starts[ids, 0]
        self._steps[ids] = 0
        self._on_back[ids] = 0
        self._touched_ever[ids] = False
        self._sense()

    def _draw_start(self, i: int) -> tuple[float, float, float]:
        """Where hallway i's episode begins, and facing where: x, y, heading."""
        settings, rng = self.settings, self._rngs[i]
        heading = rng.uniform(-settings.start_heading, settings.start_heading)
        # Drawn whatever the share is, so that two shares give the same places from one seed.
        self._full_start[i] = rng.random() >= settings.start_anywhere
        if self._full_start[i]:
            x = rng.uniform(-settings.start_x, settings.start_x)
            return x, rng.uniform(-settings.start_y, settings.start_y), heading
        if settings.anywhere_heading is not None:
            heading = rng.uniform(-settings.anywhere_heading, settings.anywhere_heading)
        half = _room_at_sides(settings, self.robot.reach)
        for _ in range(1000):
            x, y = rng.uniform(0.0, settings.length - 1.0), rng.uniform(-half, half)
            if self.course.is_clear(i, x, y):
                return x, y, heading
        raise SettingError("start_anywhere: no free place for the robot between the obstacles")

    def _sense(self) -> None:
        self.robot.proprio(self._sensors, self._qpos, self._proprio)
        np.clip(self._proprio, -PROPRIO_LIMIT, PROPRIO_LIMIT, out=self._proprio)

    # --- what the agent is told ------------------------------------------------------------------

    def _observe(self) -> dict[str, np.ndarray]:
        picture = np.empty(self._picture_shape, np.uint8)
        position, rotation = self.robot.camera_pose(self._qpos)
        if self.settings.camera == "rgb":
            self.camera.color(self.scene, position, rotation, out=picture, threads=self.threads)
        else:
            self.camera.depth_image(
                self.scene, position, rotation, out=picture[..., 0], threads=self.threads
            )
        return {"camera": picture, "proprio": self._proprio.copy()}

    def _take_picture(self, pictures: np.ndarray, i: int) -> None:
        """Take hallway i's picture alone, into pictures (N, H, W, C)."""
        scene, row = self._single_scenes[i], slice(i, i + 1)
        position, rotation = self.robot.camera_pose(self._qpos[row])
        if self.settings.camera == "rgb":
            self.camera.color(scene, position, rotation, out=pictures[row])
        else:
            self.camera.depth_image(scene, position, rotation, out=pictures[row, ..., 0])

    def _info(self) -> dict[str, Any]:
        return {
            "cost": self._cost.copy(),
            "touched": self._touched_now.sum(axis=1),
            "touched_mask": self._touched_now.copy(),
            "unstable": self._unstable.copy(),
            **self._position_info(),
        }

    def _position_info(self) -> dict[str, np.ndarray]:
        return {
            "progress": self._x.copy(),
            "steps": self._steps.copy(),
            "full_start": self._full_start.copy(),
        }

    # --- going on from where a run stopped -------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Everything needed to go on exactly from here: a dict of arrays, and nested dicts."""
        return {
            "simulation": {name: value.copy() for name, value in self._state.items()},
            "episodes": {name: value.copy() for name, value in self._episodes().items()},
            "course": self.course.get_state(),
            "rngs": [rng.bit_generator.state for rng in self._rngs],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state` of an environment with the same settings and number of hallways.

        Raises CheckpointError where the shapes show that it was another kind of environment.
        """
        lying = {"on_back": np.zeros(self.num_envs, np.int64)}  # what older versions did not note
        for here, there in (
            (self._state, state["simulation"]),
            (self._episodes(), lying | dict(state["episodes"])),
        ):
            for name, value in here.items():
                if value.shape != np.shape(there[name]):
                    raise CheckpointError(
                        f"the environment's state has {name} of shape {np.shape(there[name])}, "
                        f"where {self.settings.name} with {self.num_envs} hallways "
                        f"has {value.shape}"
                    )
                value[...] = there[name]
        self._rngs = self._rngs or [np.random.default_rng(0) for _ in range(self.num_envs)]
        for rng, stream in zip(self._rngs, state["rngs"], strict=True):
            rng.bit_generator.state = stream
        self.course.set_state(state["course"])

    def observe(self) -> dict[str, np.ndarray]:
        """The observation of the present state, as the last step or reset returned it."""
        return self._observe()

    def _episodes(self) -> dict[str, np.ndarray]:
        return {
            "proprio": self._proprio,
            "x": self._x,
            "steps": self._steps,
            "full_start": self._full_start,
            "on_back": self._on_back,
            "touched_ever": self._touched_ever,
            "done": self._done,
        }


class HallwayEnv(gymnasium.Env):
    """One hallway: as `HallwayVectorEnv`, without the leading axis, and reset by the caller.

    Keyword arguments are fields of HallwaySettings. Raises UnknownNameError for another.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        settings: HallwaySettings | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ):
        if settings is not None and kwargs:
            raise SettingError("give either settings or single fields of them, not both")
        self.hallway = HallwayVectorEnv(
            settings or HallwaySettings.from_kwargs(**kwargs),
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
        )
        self.render_mode = render_mode
        self.metadata = {k: v for k, v in self.hallway.metadata.items() if k != "autoreset_mode"}
        self.observation_space = self.hallway.single_observation_space
        self.action_space = self.hallway.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode; a seed begins the stream of episodes anew."""
        super().reset(seed=seed)
        observation, info = self.hallway.reset(seed=seed)
        return _first(observation), _first(info)

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Hold action (A,) for `action_repeat` control steps."""
        observation, reward, terminated, truncated, info = self.hallway.step(
            np.asarray(action)[None]
        )
        return (
            _first(observation),
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            _first(info),
        )

    def render(self) -> np.ndarray | None:
        """A picture from behind the robot, uint8 (360, 480, 3); None without a render mode."""
        frames = self.hallway.render()
        return None if frames is None else frames[0]


def _per_second(seconds: float) -> int | float:
    """Exact, as films and viewers keep time by it; whole where it is."""
    rate = 1.0 / seconds
    return round(rate) if abs(rate - round(rate)) < 1e-6 else rate


def _room_at_sides(settings: HallwaySettings, reach: float) -> float:
    """How far from the middle a robot of this reach may begin anywhere, metres."""
    return settings.width / 2 - reach - 0.1


def _check_room(settings: HallwaySettings, reach: float) -> None:
    """Raise SettingError where the robot would begin in a wall, or has nowhere to begin."""
    most = settings.width / 2 - reach
    if settings.start_y > most:
        raise SettingError(
            f"start_y must be at most {max(most, 0.0):.2f} for {settings.robot}, which reaches "
            f"{reach:.2f} m around itself, in a hallway {settings.width} m wide; it is "
            f"{settings.start_y}"
        )
    narrow = _room_at_sides(settings, reach) <= 0
    if settings.start_anywhere > 0 and (narrow or settings.length <= 1.0):
        raise SettingError(
            f"start_anywhere needs a hallway longer than 1 m and wider than {2 * reach + 0.2:.2f} "
            f"m for {settings.robot}; it is {settings.length} m long and {settings.width} m wide"
        )


def _first(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    return {key: value[0] for key, value in batch.items()}
