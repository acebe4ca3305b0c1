"""Store what optax's schedules return, for `test_schedules.py`: `make trajectories` runs this."""

import json
from importlib.metadata import version
from pathlib import Path

# The name of a row, and the call that makes its schedule.
CALLS = {
    "constant": "constant_schedule(0.1)",
    "linear down": "linear_schedule(0.3, 0.02, 20)",
    "linear up": "linear_schedule(0.0, 0.3, 7)",
    "cosine": "cosine_decay_schedule(0.3, 20)",
    "cosine to a tenth": "cosine_decay_schedule(0.3, 20, alpha=0.1)",
    "polynomial 1": "polynomial_schedule(0.3, 0.02, 1, 20)",
    "polynomial 2": "polynomial_schedule(0.3, 0.02, 2, 20)",
    "polynomial 0.5, up": "polynomial_schedule(0.02, 0.3, 0.5, 20)",
    "exponential": "exponential_decay(0.3, 1, 0.95)",
    "exponential every 7": "exponential_decay(0.3, 7, 0.5)",
    "exponential every 7, staircase": "exponential_decay(0.3, 7, 0.5, staircase=True)",
    "one cycle": "cosine_onecycle_schedule(20, 0.3)",
    "one cycle, other factors": "cosine_onecycle_schedule(20, 0.3, 0.25, 10.0, 100.0)",
    "warm-up, constant": "warmup_constant_schedule(0.01, 0.3, 8)",
    "warm-up, cosine": "warmup_cosine_decay_schedule(0.0, 0.3, 5, 20, 0.03)",
    "warm-up, exponential": "warmup_exponential_decay_schedule(0.01, 0.3, 5, 7, 0.5)",
    "piecewise constant": "piecewise_constant_schedule(0.3, {6: 0.5, 15: 0.1})",
    "joined": "join_schedules([linear_schedule(0.0, 0.3, 6), constant_schedule(0.3), "
    "cosine_decay_schedule(0.3, 8)], [6, 12])",
    "restarts": "sgdr_schedule(["
    "dict(init_value=0.0, peak_value=0.3, warmup_steps=2, decay_steps=9), "
    "dict(init_value=0.0, peak_value=0.2, warmup_steps=3, decay_steps=12)])",
}
STEPS = 26  # a few more than the longest schedule has


def main() -> None:
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    rows = []
    for name, call in CALLS.items():
        schedule = eval(call, vars(optax))
        values = [float(schedule(step)) for step in range(STEPS)]
        rows.append(f"{json.dumps(name)}: {json.dumps({'optax': call, 'values': values})}")
    versions = json.dumps({package: version(package) for package in ("optax", "jax")})
    text = f'{{"versions": {versions}, "schedules": {{\n' + ",\n".join(rows) + "\n}}\n"
    Path(__file__).with_name("schedules_optax.json").write_text(text)


if __name__ == "__main__":
    main()
