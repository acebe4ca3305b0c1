"""Store the paths of optax's optimizers, for `test_peers.py`: `make trajectories` runs this."""

import json
import math
from importlib.metadata import version
from pathlib import Path

# optax counts its steps in int32, so that its own schedules would compute in float32.
FADING = "lambda count: 0.02 * 0.9 ** count.astype('float64')"

# The name of a row, and the call that makes its optimizer.
CALLS = {
    "sgd": "chain(add_decayed_weights(0.03), sgd(0.05))",
    "momentum": "chain(add_decayed_weights(0.03), sgd(0.05, momentum=0.8))",
    "nesterov": "chain(add_decayed_weights(0.03), sgd(0.05, momentum=0.8, nesterov=True))",
    "momentum, schedule": "sgd(lambda count: 0.05 * 0.9 ** count.astype('float64'), momentum=0.8)",
    "rmsprop, inside": "chain(add_decayed_weights(0.03), rmsprop(0.02, decay=0.85, eps=1e-3))",
    "rmsprop, outside": "chain(add_decayed_weights(0.03), "
    "rmsprop(0.02, decay=0.85, eps=1e-3, eps_in_sqrt=False))",
    "rmsprop, inside, centered": "chain(add_decayed_weights(0.03), "
    "rmsprop(0.02, decay=0.85, eps=1e-3, centered=True))",
    "rmsprop, outside, centered": "chain(add_decayed_weights(0.03), "
    "rmsprop(0.02, decay=0.85, eps=1e-3, eps_in_sqrt=False, centered=True))",
    "rmsprop, inside, momentum": "chain(add_decayed_weights(0.03), "
    "rmsprop(0.02, decay=0.85, eps=1e-3, momentum=0.7))",
    "rmsprop, outside, centered, momentum": "chain(add_decayed_weights(0.03), "
    "rmsprop(0.02, decay=0.85, eps=1e-3, eps_in_sqrt=False, centered=True, momentum=0.7))",
    "rmsprop, inside, momentum, schedule": "chain(add_decayed_weights(0.03), "
    f"rmsprop({FADING}, decay=0.85, eps=1e-3, momentum=0.7))",
    "rmsprop, inside, centered, momentum, schedule": "chain(add_decayed_weights(0.03), "
    f"rmsprop({FADING}, decay=0.85, eps=1e-3, centered=True, momentum=0.7))",
    "rmsprop, outside, momentum, schedule": "chain(add_decayed_weights(0.03), "
    f"rmsprop({FADING}, decay=0.85, eps=1e-3, eps_in_sqrt=False, momentum=0.7))",
    "rmsprop, outside, centered, momentum, schedule": "chain(add_decayed_weights(0.03), "
    f"rmsprop({FADING}, decay=0.85, eps=1e-3, eps_in_sqrt=False, centered=True, momentum=0.7))",
    "adam": "chain(add_decayed_weights(0.03), adam(0.02, b1=0.85, b2=0.95, eps=1e-3))",
    "adam, eps_root": "chain(add_decayed_weights(0.03), "
    "adam(0.02, b1=0.85, b2=0.95, eps=0.0, eps_root=1e-3))",
    "adamw": "adamw(0.02, b1=0.85, b2=0.95, eps=1e-3, weight_decay=0.3)",
    "adamw, schedule": f"adamw({FADING}, b1=0.85, b2=0.95, eps=1e-3, weight_decay=0.3)",
    "amsgrad, outside": "chain(add_decayed_weights(0.03), "
    f"amsgrad({FADING}, b1=0.85, b2=0.95, eps=1e-3))",
    "amsgrad, inside": "chain(add_decayed_weights(0.03), "
    f"amsgrad({FADING}, b1=0.85, b2=0.95, eps=0.0, eps_root=1e-3))",
    "amsgradw": "chain(scale_by_amsgrad(b1=0.85, b2=0.95, eps=1e-3), "
    f"add_decayed_weights(0.3), scale_by_learning_rate({FADING}))",
    "nadam": "chain(add_decayed_weights(0.03), nadam(0.02, b1=0.85, b2=0.95, eps=1e-3))",
    "nadamw": "nadamw(0.02, b1=0.85, b2=0.95, eps=1e-3, weight_decay=0.3)",
    "radam": "chain(add_decayed_weights(0.03), radam(0.02, b1=0.85, b2=0.95, eps=0.0))",
    "adamax": "chain(add_decayed_weights(0.03), adamax(0.02, b1=0.85, b2=0.95, eps=1e-3))",
    "adagrad": "chain(add_decayed_weights(0.03), "
    "adagrad(0.2, initial_accumulator_value=0.2, eps=1e-3))",
    "adadelta": "adadelta(0.7, rho=0.85, eps=1e-3, weight_decay=0.03)",
    "lion": "lion(0.02, b1=0.85, b2=0.95, weight_decay=0.3)",
    "adabelief": "adabelief(0.02, b1=0.85, b2=0.95, eps=1e-3, eps_root=1e-4)",
    "adabelief, schedule": "chain(add_decayed_weights(0.03), "
    f"adabelief({FADING}, b1=0.85, b2=0.95))",
    "yogi": "chain(add_decayed_weights(0.03), yogi(0.02, b1=0.85, b2=0.95, eps=1e-3))",
    "ademamix": "contrib.ademamix(0.02, b1=0.85, b2=0.95, b3=0.97, alpha=1.7, eps=1e-3, "
    "weight_decay=0.3)",
    "ademamix, warm-up": f"contrib.ademamix({FADING}, b1=0.85, b2=0.95, b3=0.97, eps=1e-3, "
    "alpha=lambda count: (1.7 * (count.astype('float64') + 1) / 7).clip(max=1.7))",
    "adan": "adan(0.02, b1=0.85, b2=0.9, b3=0.97, eps=1e-3, eps_root=0.0, weight_decay=0.3)",
    "schedule-free sgd": "contrib.schedule_free_sgd(0.05, b1=0.85, weight_decay=0.03)",
    "schedule-free adamw": "contrib.schedule_free_adamw(0.02, b1=0.85, b2=0.95, eps=1e-3, "
    "weight_decay=0.3)",
    "signum": "signum(0.02, beta=0.85)",
}
START = [1.0, -2.0, 0.5, 0.03]
STEPS = 50
STORED = (1, 2, 3, 5, 6, 10, 20, 35, 50)


def gradients() -> list[list[float]]:
    """Return gradients of several sizes, with both signs; the last are zero at first."""
    rows = [
        [
            math.sin(1.7 * t),
            3 * math.cos(t * t),
            0.1 * math.sin(t / 5 + 1),
            1e-3 * math.sin(2.3 * t),
        ]
        for t in range(STEPS)
    ]
    return [[*rows[0][:3], 0.0], [*rows[1][:3], 0.0], *rows[2:]]


def main() -> None:
    import jax
    import numpy as np
    import optax

    jax.config.update("jax_enable_x64", True)
    grads = gradients()
    rows = []
    for name, call in CALLS.items():
        optimizer = eval(call, vars(optax))
        p = jax.numpy.array(START)
        state = optimizer.init(p)
        path, evaluated = {}, {}
        for t, g in enumerate(grads, start=1):
            updates, state = optimizer.update(jax.numpy.array(g), state, p)
            p = optax.apply_updates(p, updates)
            if t in STORED:
                assert p.dtype == np.float64
                path[t] = [float(x) for x in p]
                if hasattr(state, "z"):
                    eval_params = optax.contrib.schedule_free_eval_params(state, p)
                    evaluated[t] = [float(x) for x in eval_params]
        row = {"optax": call, "path": path} | ({"evaluated": evaluated} if evaluated else {})
        rows.append(f"{json.dumps(name)}: {json.dumps(row)}")
    versions = json.dumps({package: version(package) for package in ("optax", "jax")})
    head = f'{{"versions": {versions}, "start": {START},\n"grads": {json.dumps(grads)},\n'
    text = head + '"optimizers": {\n' + ",\n".join(rows) + "\n}}\n"
    Path(__file__).with_name("optimizers_optax.json").write_text(text)


if __name__ == "__main__":
    main()
