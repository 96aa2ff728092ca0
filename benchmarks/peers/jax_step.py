#!/usr/bin/env python3
"""E1's training step in JAX: forward, backward and Adam in one jitted function, buffers donated."""

import argparse
import sys

import measure


def parse():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--batch", type=measure.positive(int), default=64)
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32",
                   help="bf16: arithmetic in bf16 over f32 weights")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--seconds", type=measure.positive(float), default=5.0, help="of timed steps")
    p.add_argument("--json", help="write the result here (default: print it)")
    return p.parse_args()


def body(args, record):
    import jax
    import jax.numpy as jnp
    from jax import lax
    jax.config.update("jax_platforms", args.device)
    record["jax"] = jax.__version__
    record["jax_device"] = str(jax.devices()[0])
    compute = jnp.bfloat16 if args.dtype == "bf16" else jnp.float32

    key = jax.random.PRNGKey(0)
    shapes = {"w1": (5, 5, 1, 32), "b1": (32,), "w2": (5, 5, 32, 64), "b2": (64,),
              "w3": (3136, 1024), "b3": (1024,), "w4": (1024, 10), "b4": (10,)}
    params = {}
    for name, shape in shapes.items():
        key, sub = jax.random.split(key)
        params[name] = (0.1 * jax.random.truncated_normal(sub, -2, 2, shape)
                        if name[0] == "w" else jnp.full(shape, 0.1))
    record["parameters"] = sum(p.size for p in params.values())

    def pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1),
                                 (1, 2, 2, 1), "VALID")

    def conv(x, w, b):
        y = lax.conv_general_dilated(x, w, (1, 1), "SAME",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return pool(jax.nn.relu(y + b))

    def loss_of(params, x, y, key):
        p = {k: v.astype(compute) for k, v in params.items()}
        h = conv(conv(x.astype(compute), p["w1"], p["b1"]), p["w2"], p["b2"])
        h = jax.nn.relu(h.reshape(h.shape[0], -1) @ p["w3"] + p["b3"])
        h = jnp.where(jax.random.bernoulli(key, 0.5, h.shape), h * 2, 0)
        logp = jax.nn.log_softmax((h @ p["w4"] + p["b4"]).astype(jnp.float32))
        return -jnp.take_along_axis(logp, y[:, None], 1).mean()

    def train(state, x, y):
        params, m, v, t, key = state
        key, sub = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_of)(params, x, y, sub)
        t = t + 1
        tree = jax.tree_util.tree_map
        m = tree(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = tree(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
        scale = 1e-4 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        params = tree(lambda p, a, b: p - scale * a / (jnp.sqrt(b) + 1e-8), params, m, v)
        return (params, m, v, t, key), loss

    step = jax.jit(train, donate_argnums=0)
    zeros = jax.tree_util.tree_map(jnp.zeros_like, params)
    copy = jax.tree_util.tree_map(jnp.copy, zeros)
    box = {"state": (params, zeros, copy, jnp.float32(0), key)}
    x = jax.random.uniform(key, (args.batch, 28, 28, 1))
    y = jax.random.randint(key, (args.batch,), 0, 10)

    def timed():
        box["state"], box["loss"] = step(box["state"], x, y)

    def read_loss(name):
        record[name] = float(box["loss"])

    record.update(measure.time_step(timed, lambda: jax.block_until_ready(box["state"]),
                                    seconds=args.seconds,
                                    after_first=lambda: read_loss("loss_first")))
    read_loss("loss_last")
    record["images_per_s"] = args.batch * 1e3 / record["ms"]["median"]
    ms = record["ms"]
    print(f"jax lenet b{args.batch} {args.dtype}: {ms['median']:.3f} ms [{ms['low']:.3f}, "
          f"{ms['high']:.3f}], first step {record['first_step_s']:.1f} s, loss "
          f"{record['loss_first']:.3f} -> {record['loss_last']:.3f}", file=sys.stderr)


if __name__ == "__main__":
    ARGS = parse()
    sys.exit(measure.run(ARGS, lambda record: body(ARGS, record)))
