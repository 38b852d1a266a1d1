"""Lesson 4: mistakes that people make, and right answers written in other ways."""

WRONG = [
    # --- convert_prediction
    dict(
        exercise="convert_prediction",
        name="v_sign_swapped",
        says="sign of v",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = gather(alphas_cumprod, t, like=x_t)
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    if source == "epsilon":
        noise, x_0 = prediction, (x_t - sigma * prediction) / signal
    elif source == "sample":
        x_0, noise = prediction, (x_t - signal * prediction) / sigma
    else:
        x_0, noise = signal * x_t + sigma * prediction, sigma * x_t - signal * prediction
    v = sigma * x_0 - signal * noise
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]
""",
    ),
    dict(
        exercise="convert_prediction",
        name="no_roots",
        says="square roots are missing",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = gather(alphas_cumprod, t, like=x_t)
    signal, sigma = a, 1 - a
    if source == "epsilon":
        noise, x_0 = prediction, (x_t - sigma * prediction) / signal
    elif source == "sample":
        x_0, noise = prediction, (x_t - signal * prediction) / sigma
    else:
        x_0, noise = signal * x_t - sigma * prediction, sigma * x_t + signal * prediction
    v = signal * noise - sigma * x_0
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]
""",
    ),
    dict(
        exercise="convert_prediction",
        name="source_and_target_swapped",
        says="changed places",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    source, target = target, source
    a = gather(alphas_cumprod, t, like=x_t)
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    if source == "epsilon":
        noise, x_0 = prediction, (x_t - sigma * prediction) / signal
    elif source == "sample":
        x_0, noise = prediction, (x_t - signal * prediction) / sigma
    else:
        x_0, noise = signal * x_t - sigma * prediction, sigma * x_t + signal * prediction
    v = signal * noise - sigma * x_0
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]
""",
    ),
    dict(
        exercise="convert_prediction",
        name="target_ignored",
        says="What comes back is the clean picture|unchanged",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = gather(alphas_cumprod, t, like=x_t)
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    if source == "epsilon":
        return (x_t - sigma * prediction) / signal
    if source == "sample":
        return prediction
    return signal * x_t - sigma * prediction
""",
    ),
    dict(
        exercise="convert_prediction",
        name="off_by_one",
        says="too late",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = gather(alphas_cumprod, (t + 1).clamp(max=len(alphas_cumprod) - 1), like=x_t)
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    if source == "epsilon":
        noise, x_0 = prediction, (x_t - sigma * prediction) / signal
    elif source == "sample":
        x_0, noise = prediction, (x_t - signal * prediction) / sigma
    else:
        x_0, noise = signal * x_t - sigma * prediction, sigma * x_t + signal * prediction
    v = signal * noise - sigma * x_0
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]
""",
    ),
    dict(
        exercise="convert_prediction",
        name="first_samples_t",
        says="first sample's t",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = alphas_cumprod[t[0]]
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    if source == "epsilon":
        noise, x_0 = prediction, (x_t - sigma * prediction) / signal
    elif source == "sample":
        x_0, noise = prediction, (x_t - signal * prediction) / sigma
    else:
        x_0, noise = signal * x_t - sigma * prediction, sigma * x_t + signal * prediction
    v = signal * noise - sigma * x_0
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]
""",
    ),
    dict(
        exercise="convert_prediction",
        name="clips",
        says="clipped",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = gather(alphas_cumprod, t, like=x_t)
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    if source == "epsilon":
        noise, x_0 = prediction, (x_t - sigma * prediction) / signal
    elif source == "sample":
        x_0, noise = prediction, (x_t - signal * prediction) / sigma
    else:
        x_0, noise = signal * x_t - sigma * prediction, sigma * x_t + signal * prediction
    v = signal * noise - sigma * x_0
    return {"epsilon": noise, "sample": x_0.clamp(-1, 1), "v_prediction": v}[target]
""",
    ),
    dict(
        exercise="convert_prediction",
        name="by_way_of_the_noise",
        says="division",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = gather(alphas_cumprod, t, like=x_t)
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    if source == target:
        return prediction
    if source == "epsilon":
        noise = prediction
    elif source == "sample":
        noise = (x_t - signal * prediction) / sigma
    else:
        noise = sigma * x_t + signal * prediction
    x_0 = (x_t - sigma * noise) / signal
    v = signal * noise - sigma * x_0
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]
""",
    ),
    # --- spaced_timesteps
    dict(
        exercise="spaced_timesteps",
        name="ascending",
        says="rises",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N, dtype=torch.float64)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "trailing":
        return (((i + 1) * T / N).round() - 1).long()
    return (i * (T - 1) / max(N - 1, 1)).round().long()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="leading_and_trailing_mixed_up",
        says="steps of 'trailing'",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "trailing":
        return (i * (T // N)).long()
    if spacing == "leading":
        return (((i + 1) * T / N).round() - 1).long()
    return (i * (T - 1) / max(N - 1, 1)).round().long()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="decimals_cut_off",
        says="cut off",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N).flip(0)
    if spacing == "leading":
        return i * (T // N)
    if spacing == "trailing":
        return (i + 1) * T // N - 1
    return i * (T - 1) // max(N - 1, 1)
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="counts_from_1",
        says="count from 1",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "trailing":
        return ((i + 1) * T / N).round().long()
    return (i * (T - 1) / max(N - 1, 1)).round().long()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="duplicates",
        says="twice",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    stride = T // N
    i = torch.arange(N).flip(0)
    if spacing == "leading":
        return i * stride
    if spacing == "trailing":
        return ((i.double() + 1) * T / N).round().long() - 1
    return (i // 2 * 2 * (T - 1) / max(N - 1, 1)).round().long()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="range_with_a_stride",
        says="more|fewer",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    if spacing == "leading":
        return torch.arange(0, T, T // N).flip(0)
    if spacing == "trailing":
        return torch.arange(T - 1, -1, -(T // N))
    return torch.linspace(T - 1, 0, N, dtype=torch.float64).round().long()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="range_with_a_broken_stride",
        says="more for 61 of 1000.*overshoot|more for 103 of 1000.*overshoot",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    if spacing == "leading":
        return torch.arange(N).flip(0) * (T // N)
    if spacing == "trailing":
        return (torch.arange(T, 0, -T / N).round() - 1).long()
    return torch.linspace(0, T - 1, N, dtype=torch.float64).round().long().flip(0)
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="floats",
        says="whole numbers",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return i * (T // N)
    if spacing == "trailing":
        return ((i + 1) * T / N).round() - 1
    return (i * (T - 1) / max(N - 1, 1)).round()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="whole_strides_everywhere",
        says="cut to a whole number",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N).flip(0)
    if spacing == "leading":
        return i * (T // N)
    if spacing == "trailing":
        return (i + 1) * (T // N) - 1
    return i * ((T - 1) // max(N - 1, 1))
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="single_linspace_step_at_the_top",
        says="single step",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "trailing":
        return (((i + 1) * T / N).round() - 1).long()
    return torch.linspace(T - 1, 0, N, dtype=torch.float64).round().long()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="strides_of_linspace",
        says="N - 1 strides",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing not in SPACINGS:
        raise ValueError(spacing)
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "trailing":
        return (((i + 1) * T / N).round() - 1).long()
    return (i * (T - 1) / N).round().long()
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="silent_on_misspelling",
        says="in silence",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "linspace":
        return (i * (T - 1) / max(N - 1, 1)).round().long()
    return (((i + 1) * T / N).round() - 1).long()
""",
    ),
]


def _ddim(name, says, old, new, *more):
    """The usual way of writing ddim_step with one line changed."""
    code = DDIM
    for before, after in ((old, new), *more):
        assert before in code, before
        code = code.replace(before, after)
    return dict(exercise="ddim_step", name=name, says=says, code=code)


DDIM = """
def ddim_step(
    x_t, noise_pred, t, t_prev, alphas_cumprod, eta=0.0, noise=None, clip_sample=True
):
    a = gather(alphas_cumprod, t, like=x_t)
    p = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)
    x_0 = (x_t - (1 - a).sqrt() * noise_pred) / a.sqrt()
    if clip_sample:
        x_0 = x_0.clamp(-1, 1)
        noise_pred = (x_t - a.sqrt() * x_0) / (1 - a).sqrt()
    sigma = eta * ((1 - p) / (1 - a) * (1 - a / p)).sqrt()
    direction = (1 - p - sigma**2).clamp(min=0).sqrt()
    x_prev = p.sqrt() * x_0 + direction * noise_pred
    if eta > 0:
        x_prev = x_prev + sigma * noise
    return x_prev
"""

WRONG += [
    _ddim(
        "sigma_for_the_direction",
        "σ stands as the coefficient|only the clean guess",
        "direction * noise_pred",
        "sigma * noise_pred",
    ),
    _ddim(
        "variance_without_root",
        "root over the variance is missing",
        "eta * ((1 - p) / (1 - a) * (1 - a / p)).sqrt()",
        "eta * (1 - p) / (1 - a) * (1 - a / p)",
    ),
    _ddim("eta_squared", "eta is squared", "sigma = eta *", "sigma = eta**2 *"),
    _ddim(
        "noise_where_there_is_none",
        "no noise where eta is 0",
        "    if eta > 0:\n        x_prev = x_prev + sigma * noise\n    return x_prev",
        "    return x_prev + sigma * noise",
    ),
    _ddim("sigma_not_taken_off", "not taken off", "(1 - p - sigma**2)", "(1 - p)"),
    _ddim("no_clamp", "below zero", ".clamp(min=0)", ""),
    _ddim("sigma_not_squared", "not σ², is taken off", "sigma**2", "sigma"),
    _ddim(
        "direction_without_root",
        "root over 1 - ᾱ_prev - σ² is missing",
        "(1 - p - sigma**2).clamp(min=0).sqrt()",
        "(1 - p - sigma**2)",
    ),
    _ddim(
        "one_step_down",
        "lands at t - 1",
        "alpha_bar_at(alphas_cumprod, t_prev, like=x_t)",
        "alpha_bar_at(alphas_cumprod, t - 1, like=x_t)",
    ),
    _ddim(
        "landing_off_by_one",
        "too late",
        "alpha_bar_at(alphas_cumprod, t_prev, like=x_t)",
        "alpha_bar_at(alphas_cumprod, t_prev + 1, like=x_t)",
    ),
    _ddim(
        "wraps_round_at_the_end",
        "noisiest step",
        "alpha_bar_at(alphas_cumprod, t_prev, like=x_t)",
        "alphas_cumprod[t_prev].to(x_t).reshape(a.shape)",
    ),
    _ddim(
        "gather_at_the_end",
        "clean end",
        "alpha_bar_at(alphas_cumprod, t_prev, like=x_t)",
        "gather(alphas_cumprod, t_prev, like=x_t)",
    ),
    _ddim(
        "step_0_at_the_end",
        "ᾱ of step 0",
        "alpha_bar_at(alphas_cumprod, t_prev, like=x_t)",
        "gather(alphas_cumprod, t_prev.clamp(min=0), like=x_t)",
    ),
    _ddim(
        "noise_at_the_last_step",
        "noise is added",
        "x_prev = x_prev + sigma * noise",
        "x_prev = x_prev + torch.where(p == 1, eta * torch.ones_like(p), sigma) * noise",
    ),
    _ddim(
        "clipped_without_new_noise",
        "noise stays as it was",
        "        noise_pred = (x_t - a.sqrt() * x_0) / (1 - a).sqrt()\n",
        "",
    ),
    _ddim(
        "clips_x_prev",
        "x_prev is clipped",
        "    return x_prev\n",
        "    return x_prev.clamp(-1, 1) if clip_sample else x_prev\n",
        (
            "        x_0 = x_0.clamp(-1, 1)\n"
            "        noise_pred = (x_t - a.sqrt() * x_0) / (1 - a).sqrt()\n",
            "        pass\n",
        ),
    ),
    _ddim("eta_ignored", "eta is ignored", "sigma = eta * (", "sigma = ("),
    _ddim(
        "eta_under_the_root",
        "eta went under the root",
        "eta * ((1 - p) / (1 - a) * (1 - a / p)).sqrt()",
        "(eta * (1 - p) / (1 - a) * (1 - a / p)).sqrt()",
    ),
    _ddim("no_fresh_noise", "Fresh noise is missing", "x_prev + sigma * noise", "x_prev"),
    _ddim(
        "old_noise_for_fresh", "predicted noise once more", "sigma * noise", "sigma * noise_pred"
    ),
    _ddim("scaled_where_it_starts", "scaled by √ᾱ_t", "p.sqrt() * x_0 +", "a.sqrt() * x_0 +"),
    _ddim(
        "batch_switched_off",
        "switched off the noise",
        "    if eta > 0:",
        "    if (t_prev < 0).any():\n"
        "        return p.sqrt() * x_0 + (1 - p).sqrt() * noise_pred\n"
        "    if eta > 0:",
    ),
]

# --- sample_ddim

SAMPLE_DDIM = """
@torch.no_grad()
def sample_ddim(
    model, x_T, alphas_cumprod, timesteps, eta=0.0, generator=None, clip_sample=True,
    prediction_type="epsilon", on_step=None,
):
    x = x_T
    steps = timesteps.tolist()
    for step, step_prev in zip(steps, [*steps[1:], -1]):
        t = torch.full((len(x),), step)
        t_prev = torch.full((len(x),), step_prev)
        prediction = model(x, t)
        noise_pred = convert_prediction(
            prediction, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, eta, noise, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
"""


def _loop(exercise, source, name, says, *changes):
    code = source
    for before, after in changes:
        assert before in code, before
        code = code.replace(before, after)
    return dict(exercise=exercise, name=name, says=says, code=code)


def _sample_ddim(name, says, *changes):
    return _loop("sample_ddim", SAMPLE_DDIM, name, says, *changes)


WRONG += [
    _sample_ddim("every_step", "every step of the schedule", (
        "steps = timesteps.tolist()", "steps = list(reversed(range(len(alphas_cumprod))))"
    )),
    _sample_ddim("upwards", "upwards", (
        "steps = timesteps.tolist()", "steps = timesteps.flip(0).tolist()"
    )),
    _sample_ddim("last_step_missing", "left out", ("[*steps[1:], -1]", "steps[1:]")),
    _sample_ddim("ends_at_0", "lands at step 0", ("[*steps[1:], -1]", "[*steps[1:], 0]")),
    _sample_ddim("one_step_at_a_time", "lands at t - 1", (
        "t_prev = torch.full((len(x),), step_prev)", "t_prev = t - 1"
    )),
    _sample_ddim("asked_where_it_lands", "where the jump lands", (
        "prediction = model(x, t)", "prediction = model(x, t_prev)"
    )),
    _sample_ddim("prediction_type_ignored", "prediction_type is not heeded", (
        "convert_prediction(\n            prediction, x, t, alphas_cumprod, prediction_type, "
        '"epsilon"\n        )',
        "prediction",
    )),
    _sample_ddim("clip_not_handed_on", "clip_sample is not handed on", (
        "eta, noise, clip_sample)", "eta, noise)"
    )),
    _sample_ddim("eta_not_handed_on", "eta has no effect", (
        "alphas_cumprod, eta, noise, clip_sample)",
        "alphas_cumprod, 0.0, None, clip_sample)",
    )),
    _sample_ddim("noise_before_the_loop", "same noise", (
        "        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)\n", ""
    ), ("    x = x_T\n", "    x = x_T\n    noise = torch.randn(x.shape, generator=generator, "
        "dtype=x.dtype)\n")),
    _sample_ddim("generator_ignored", "generator", (
        "torch.randn(x.shape, generator=generator, dtype=x.dtype)", "torch.randn_like(x)"
    )),
    _sample_ddim("scalar_t", "one step a sample", (
        "t = torch.full((len(x),), step)\n", "t = torch.tensor(step)\n"
    )),
    _sample_ddim("own_start", "argument x_T", (
        "    x = x_T\n", "    x = torch.randn(x_T.shape, generator=generator, dtype=x_T.dtype)\n"
    )),
    _sample_ddim("on_step_gets_a_row_of_steps", "plain number of the step", (
        "on_step(step, x, noise_pred)", "on_step(t, x, noise_pred)"
    )),
    _sample_ddim("on_step_gets_the_prediction_first", "pictures after the step", (
        "on_step(step, x, noise_pred)", "on_step(step, noise_pred, x)"
    )),
]  # fmt: skip

# --- dpmpp_2m_step

DPM = """
def dpmpp_2m_step(
    x_t, x_0_pred, t, t_prev, alphas_cumprod, x_0_pred_last=None, t_last=None
):
    a = gather(alphas_cumprod, t, like=x_t)
    p = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)
    h = half_log_snr(p) - half_log_snr(a)
    aim = x_0_pred
    if x_0_pred_last is not None:
        last = gather(alphas_cumprod, t_last, like=x_t)
        h_last = half_log_snr(a) - half_log_snr(last)
        factor = h / (2 * h_last)
        factor = torch.where(h.isinf(), torch.zeros_like(factor), factor)
        aim = x_0_pred + factor * (x_0_pred - x_0_pred_last)
    keep = ((1 - p) / (1 - a)).sqrt()
    return keep * x_t + p.sqrt() * (1 - torch.exp(-h)) * aim
"""


def _dpm(name, says, *changes):
    return _loop("dpmpp_2m_step", DPM, name, says, *changes)


WRONG += [
    _dpm("h_sign_wrong", "h has the wrong sign", (
        "h = half_log_snr(p) - half_log_snr(a)", "h = half_log_snr(a) - half_log_snr(p)"
    ), ("factor = h / (2 * h_last)", "factor = -h / (2 * h_last)")),
    _dpm("h_sign_wrong_everywhere", "wrong sign", (
        "h = half_log_snr(p) - half_log_snr(a)", "h = half_log_snr(a) - half_log_snr(p)"
    )),
    _dpm("ratio_upside_down", "upside down", ("h / (2 * h_last)", "h_last / (2 * h)")),
    _dpm("first_order_throughout", "first-order", (
        "aim = x_0_pred + factor * (x_0_pred - x_0_pred_last)", "aim = x_0_pred"
    )),
    _dpm("half_missing_in_lambda", "½ in λ", (
        "half_log_snr(p) - half_log_snr(a)",
        "torch.log(p / (1 - p)) - torch.log(a / (1 - a))",
    ), (
        "half_log_snr(a) - half_log_snr(last)",
        "torch.log(a / (1 - a)) - torch.log(last / (1 - last))",
    )),
    _dpm("half_missing_in_the_aim", "½ is missing", ("h / (2 * h_last)", "h / h_last")),
    _dpm("formula_for_noise", "predicted noise", (
        "keep * x_t + p.sqrt() * (1 - torch.exp(-h)) * aim",
        "(p / a).sqrt() * x_t - (1 - p).sqrt() * torch.expm1(h) * aim",
    )),
    _dpm("noise_for_picture", "noise where the clean guess", (
        "    aim = x_0_pred\n", "    aim = (x_t - a.sqrt() * x_0_pred) / (1 - a).sqrt()\n"
    )),
    _dpm("away_from_the_heading", "away from where", (
        "x_0_pred - x_0_pred_last", "x_0_pred_last - x_0_pred"
    )),
    _dpm("mean_of_both", "mean of the two", (
        "x_0_pred + factor * (x_0_pred - x_0_pred_last)", "(x_0_pred + x_0_pred_last) / 2"
    )),
    _dpm("measured_in_t", "measured in t", (
        "factor = h / (2 * h_last)",
        "factor = ((t - t_prev) / (2 * (t_last - t))).reshape(h.shape).to(x_t.dtype)",
    )),
    _dpm("h_last_over_both_steps", "over both steps", (
        "half_log_snr(a) - half_log_snr(last)", "half_log_snr(p) - half_log_snr(last)"
    )),
    _dpm("half_alone", "stands there alone", ("factor = h / (2 * h_last)", "factor = 0.5 + 0 * h")),
    _dpm("signal_scaled_first", "shrink the noise", (
        "keep = ((1 - p) / (1 - a)).sqrt()", "keep = (p / a).sqrt()"
    )),
    _dpm("infinite_at_the_end", "finite", (
        "        factor = torch.where(h.isinf(), torch.zeros_like(factor), factor)\n", ""
    )),
    _dpm("whole_batch_first_order", "whole batch first order", (
        "    if x_0_pred_last is not None:", "    if x_0_pred_last is not None and (t_prev >= 0).all():"
    )),
    _dpm("landing_off_by_one", "too late", (
        "alpha_bar_at(alphas_cumprod, t_prev, like=x_t)",
        "alpha_bar_at(alphas_cumprod, t_prev + 1, like=x_t)",
    )),
]  # fmt: skip

# --- sample_dpmpp_2m

SAMPLE_DPM = """
@torch.no_grad()
def sample_dpmpp_2m(
    model, x_T, alphas_cumprod, timesteps, clip_sample=True, prediction_type="epsilon",
    on_step=None,
):
    x, x_0_pred_last, t_last = x_T, None, None
    steps = timesteps.tolist()
    for step, step_prev in zip(steps, [*steps[1:], -1]):
        t = torch.full((len(x),), step)
        t_prev = torch.full((len(x),), step_prev)
        prediction = model(x, t)
        guess = convert_prediction(prediction, x, t, alphas_cumprod, prediction_type, "sample")
        if clip_sample:
            guess = guess.clamp(-1, 1)
        x = dpmpp_2m_step(x, guess, t, t_prev, alphas_cumprod, x_0_pred_last, t_last)
        x_0_pred_last, t_last = guess, t
        if on_step is not None:
            on_step(step, x, guess)
    return x
"""


UNCHECKED_STEP = """
    def unchecked(x_t, x_0_pred, t, t_prev, alphas_cumprod, x_0_pred_last=None, t_last=None):
        a = gather(alphas_cumprod, t, like=x_t)
        p = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)
        lam_t, aim = torch.log(a / (1 - a)) / 2, x_0_pred
        h = torch.log(p / (1 - p)) / 2 - lam_t
        if t_last is not None:
            last = gather(alphas_cumprod, t_last, like=x_t)
            factor = h / (2 * (lam_t - torch.log(last / (1 - last)) / 2))
            aim = aim + torch.where(h.isinf(), 0, factor) * (x_0_pred - x_0_pred_last)
        return ((1 - p) / (1 - a)).sqrt() * x_t + p.sqrt() * (1 - torch.exp(-h)) * aim

"""


def _sample_dpm(name, says, *changes):
    return _loop("sample_dpmpp_2m", SAMPLE_DPM, name, says, *changes)


WRONG += [
    _sample_dpm("first_order_throughout", "first-order", (
        "alphas_cumprod, x_0_pred_last, t_last)", "alphas_cumprod)"
    )),
    _sample_dpm("memory_never_renewed", "does not hold the guess", (
        "        x_0_pred_last, t_last = guess, t\n",
        "        if t_last is None:\n            x_0_pred_last, t_last = guess, t\n",
    )),
    _sample_dpm("remembers_where_it_landed", "t_last must lie above t", (
        "x_0_pred_last, t_last = guess, t\n", "x_0_pred_last, t_last = guess, t_prev\n"
    )),
    _sample_dpm("remembers_where_it_landed_and_checks_nothing", "where that step began", (
        "x_0_pred_last, t_last = guess, t\n", "x_0_pred_last, t_last = guess, t_prev\n"
    ), ("    x, x_0_pred_last, t_last = x_T", UNCHECKED_STEP + "    x, x_0_pred_last, t_last = x_T"),
    ("x = dpmpp_2m_step(", "x = unchecked(")),
    _sample_dpm("t_last_never_renewed", "t_last is not renewed", (
        "        x_0_pred_last, t_last = guess, t\n",
        "        x_0_pred_last, t_last = guess, t if t_last is None else t_last\n",
    )),
    _sample_dpm("noise_handed_over", "wants the clean picture", ('"sample")', '"epsilon")')),
    _sample_dpm("prediction_type_ignored", "prediction_type is not heeded", (
        "alphas_cumprod, prediction_type,", 'alphas_cumprod, "epsilon",'
    )),
    _sample_dpm("never_clips", "clip_sample is not heeded", ("if clip_sample:", "if False:")),
    _sample_dpm("always_clips", "clip_sample is not heeded", ("if clip_sample:", "if True:")),
    _sample_dpm("clips_x", "x is clipped", (
        "        if clip_sample:\n            guess = guess.clamp(-1, 1)\n", ""
    ), ("x_0_pred_last, t_last)\n", "x_0_pred_last, t_last)\n"
        "        x = x.clamp(-1, 1) if clip_sample else x\n")),
    _sample_dpm("clips_what_the_model_said", "nor what the model said", (
        "        if clip_sample:\n            guess = guess.clamp(-1, 1)\n", ""
    ), ("prediction = model(x, t)\n", "prediction = model(x, t)\n        if clip_sample:\n"
        "            prediction = prediction.clamp(-1, 1)\n")),
    _sample_dpm("remembers_before_clipping", "before it is clipped", (
        "        if clip_sample:\n", "        free = guess\n        if clip_sample:\n"
    ), ("x_0_pred_last, t_last = guess, t", "x_0_pred_last, t_last = free, t")),
    _sample_dpm("ends_at_0", "lands at step 0", ("[*steps[1:], -1]", "[*steps[1:], 0]")),
    _sample_dpm("last_step_missing", "left out", ("[*steps[1:], -1]", "steps[1:]")),
    _sample_dpm("asked_twice", "more than once", (
        "        prediction = model(x, t)\n",
        "        model(x, t)\n        prediction = model(x, t)\n",
    )),
    _sample_dpm("on_step_gets_a_row_of_steps", "plain number of the step", (
        "on_step(step, x, guess)", "on_step(t, x, guess)"
    )),
    _sample_dpm("on_step_gets_the_noise", "x_0_pred", (
        "on_step(step, x, guess)",
        'on_step(step, x, convert_prediction(guess, x, t, alphas_cumprod, "sample", "epsilon"))',
    )),
]  # fmt: skip

# --- what must stay as it was, and what must differ

LIKE_X = "torch.randn(x.shape, generator=generator, dtype=x.dtype)"
LANDING = "p = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)"
NOT_AT_0 = "(t_prev > 0).view(p.shape)"


def _convert(name, says, *changes):
    return _loop("convert_prediction", CONVERT, name, says, *changes)


CONVERT = """
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    a = gather(alphas_cumprod, t, like=x_t)
    c, s = a.sqrt(), (1 - a).sqrt()
    if source == "epsilon":
        noise, x_0 = prediction, (x_t - s * prediction) / c
    elif source == "sample":
        x_0, noise = prediction, (x_t - c * prediction) / s
    else:
        x_0, noise = c * x_t - s * prediction, s * x_t + c * prediction
    v = c * noise - s * x_0
    return {"epsilon": noise, "sample": x_0, "v_prediction": v}[target]
"""

WRONG += [
    _convert("x_t_in_place", "changes x_t in place", (
        "prediction, (x_t - s * prediction) / c", "prediction, x_t.sub_(s * prediction).div_(c)"
    )),
    _convert("four_dimensions_only", "as many dimensions as x_t", (
        "gather(alphas_cumprod, t, like=x_t)", "alphas_cumprod[t].view(-1, 1, 1, 1)"
    )),
    _convert("v_plus", "It is v = ", ("c * noise - s * x_0", "c * noise + s * x_0")),
    _convert("s_is_1_minus_c", "It is x_0 = ", ("(1 - a).sqrt()", "1 - a.sqrt()")),
    dict(
        exercise="spaced_timesteps",
        name="thousand_for_T",
        says="1000 is written into",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = 1000, num_inference_steps
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "trailing":
        return (((i + 1) * T / N).round() - 1).long()
    if spacing == "linspace":
        return (i * (T - 1) / max(N - 1, 1)).round().long()
    raise ValueError(spacing)
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="asserts_a_ValueError",
        says="should raise a ValueError",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "trailing":
        return (((i + 1) * T / N).round() - 1).long()
    assert spacing == "linspace", "ValueError: unknown spacing"
    return (i * (T - 1) / max(N - 1, 1)).round().long()
""",
    ),
    _ddim("step_0_as_the_end", "Step 0 was taken", LANDING,
        f"{LANDING}\n    p = torch.where({NOT_AT_0}, p, 1.0)"),
    _ddim("noise_in_place", "changes noise in place", "x_prev + sigma * noise",
        "noise.mul_(sigma).add_(x_prev)"),
    _ddim("noise_drawn_inside", "draws noise of its own", "sigma * noise",
        "sigma * torch.randn_like(x_t)"),
    _ddim("any_sample_is_final", "whole batch was sent there", "    sigma = eta",
        "    if (t_prev == -1).any():\n        return x_0\n    sigma = eta"),
    _dpm("step_0_as_the_end", "Step 0 was taken", (
        LANDING, f"{LANDING}\n    p = torch.where({NOT_AT_0}, p, 1.0)"
    )),
    _dpm("first_order_to_0", "first-order step. Only a step to -1", (
        "torch.where(h.isinf(), torch.zeros_like(factor), factor)",
        "torch.where((t_prev > 0).view(h.shape), factor, 0.0)",
    )),
    _dpm("guess_in_place", "changes x_0_pred in place", (
        "aim = x_0_pred + factor * (x_0_pred - x_0_pred_last)",
        "aim = x_0_pred.add_(factor * (x_0_pred - x_0_pred_last))",
    )),
    _dpm("brackets_in_the_factor", "mind the brackets", ("h / (2 * h_last)", "h / 2 * h_last")),
    _dpm("aim_clipped", "aim is clipped", ("    keep =", "    aim = aim.clamp(-1, 1)\n    keep =")),
    _dpm("first_samples_h", "first sample's h", (
        "    aim = x_0_pred\n", "    h = h[:1]\n    aim = x_0_pred\n"
    )),
    _dpm("another_logarithm", "natural logarithm", (
        "half_log_snr(p) - half_log_snr(a)", "(half_log_snr(p) - half_log_snr(a)) / 2.302585"
    )),
    _sample_ddim("same_noise_for_every_sample", "All samples get the same", (
        LIKE_X, LIKE_X.replace("x.shape", "x.shape[1:]") + ".expand(x.shape)"
    )),
    _sample_ddim("one_noise_channel", "All channels get the same", (
        LIKE_X, "torch.randn(len(x), 1, *x.shape[2:], generator=generator).expand(x.shape)"
    )),
    _sample_ddim("no_noise_before_the_end", "At t = 8 no fresh noise", (
        "        x = ddim_step", "        if step_prev == steps[-1]:\n"
        "            noise = torch.zeros_like(noise)\n        x = ddim_step"
    )),
    _sample_ddim("predicted_noise_as_fresh", "predicted is added again", (LIKE_X, "noise_pred")),
    _sample_ddim("unseeded_generator_of_its_own", "begins with the same seed", (
        "    x = x_T\n", "    x = x_T\n    generator = generator or torch.Generator()\n"
    )),
    _sample_ddim("on_step_gets_the_raw_answer", "as it came", (
        "on_step(step, x, noise_pred)", "on_step(step, x, prediction)"
    )),
    _sample_ddim("x_T_overwritten", "changes x_T in place", (
        "x = ddim_step(", "x[:] = ddim_step("
    )),
    _sample_ddim("no_no_grad", "hang on the model", ("@torch.no_grad()\n", "")),
    _sample_ddim("needs_two_steps", "holds a single step", (
        "    steps = timesteps.tolist()\n",
        "    steps = timesteps.tolist()\n    stride = steps[0] - steps[1]\n",
    )),
    _sample_ddim("pictures_only", r"any shape \(B, …\)", (
        "    x = x_T\n", "    x = x_T\n    b, c, h, w = x.shape\n"
    )),
    _sample_ddim("clip_default_off", "clip_sample is True", (
        "clip_sample=True", "clip_sample=False"
    )),
    _sample_ddim("asks_for_the_picture", "wrong thing is asked for", (
        'prediction_type, "epsilon"', 'prediction_type, "sample"'
    )),
    _sample_ddim("source_and_target_exchanged", "changed places", (
        'prediction_type, "epsilon"', '"epsilon", prediction_type'
    )),
    _sample_ddim("translated_with_t_prev", "asked with t_prev", (
        "prediction, x, t, alphas_cumprod", "prediction, x, t_prev.clamp(min=0), alphas_cumprod"
    )),
    _sample_ddim("eta_1_always", "although eta is 0", (
        "eta, noise, clip_sample)", "1.0, noise, clip_sample)"
    )),
    _sample_ddim("clips_at_the_end", "returns is clipped", (
        "    return x\n", "    return x.clamp(-1, 1)\n"
    )),
    _sample_ddim("returns_in_the_loop", "inside the loop", (
        "    return x\n", "        return x\n"
    )),
    _sample_dpm("x_T_overwritten", "changes x_T in place", (
        "x = dpmpp_2m_step(", "x[:] = dpmpp_2m_step("
    )),
    _sample_dpm("no_no_grad", "hang on the model", ("@torch.no_grad()\n", "")),
    _sample_dpm("needs_two_steps", "holds a single step", (
        "    steps = timesteps.tolist()\n",
        "    steps = timesteps.tolist()\n    stride = steps[0] - steps[1]\n",
    )),
    _sample_dpm("clip_default_off", "clip_sample is True", (
        "clip_sample=True", "clip_sample=False"
    )),
    _sample_dpm("header_of_sample_ddim", "has no eta", (
        "timesteps, clip_sample=True", "timesteps, eta=0.0, generator=None, clip_sample=True"
    )),
    _sample_dpm("remembers_x", "remembered is x", (
        "x_0_pred_last, t_last = guess, t\n", "x_0_pred_last, t_last = x, t\n"
    )),
    _sample_dpm("remembers_the_prediction", "remembered is what the model said", (
        "x_0_pred_last, t_last = guess, t\n", "x_0_pred_last, t_last = prediction, t\n"
    )),
    _sample_dpm("translated_with_t_prev", "asked with t_prev", (
        "prediction, x, t, alphas_cumprod", "prediction, x, t_prev.clamp(min=0), alphas_cumprod"
    )),
    _sample_dpm("clips_to_0_1", r"clipped to \[0, 1\]", ("clamp(-1, 1)", "clamp(0, 1)")),
    _sample_dpm("on_step_gets_the_raw_answer", "as it came", (
        "on_step(step, x, guess)", "on_step(step, x, prediction)"
    )),
]  # fmt: skip

RIGHT = [
    # --- convert_prediction
    dict(
        exercise="convert_prediction",
        name="by_way_of_v",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    c = alphas_cumprod[t].to(x_t.dtype).view(-1, *[1] * (x_t.dim() - 1)) ** 0.5
    s = (1 - c**2) ** 0.5
    if source == "epsilon":
        v = (prediction - s * x_t) / c
    elif source == "sample":
        v = (c * x_t - prediction) / s
    else:
        v = prediction
    if target == "v_prediction":
        return v
    return s * x_t + c * v if target == "epsilon" else c * x_t - s * v
""",
    ),
    dict(
        exercise="convert_prediction",
        name="table_of_formulas_in_float64",
        code="""
def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    p, x = prediction.double(), x_t.double()
    a = gather(alphas_cumprod.double(), t, like=x)
    c, s = torch.sqrt(a), torch.sqrt(1 - a)
    to_both = {
        "epsilon": lambda: ((x - s * p) / c, p),
        "sample": lambda: (p, (x - c * p) / s),
        "v_prediction": lambda: (c * x - s * p, s * x + c * p),
    }
    clean, noise = to_both[source]()
    out = {"epsilon": noise, "sample": clean, "v_prediction": c * noise - s * clean}[target]
    return out.to(x_t.dtype)
""",
    ),
    dict(
        exercise="convert_prediction",
        name="loop_over_samples",
        code="""
def one(p, x, a, source, target):
    c, s = a**0.5, (1 - a) ** 0.5
    if source == "epsilon":
        clean, noise = (x - s * p) / c, p
    if source == "sample":
        clean, noise = p, (x - c * p) / s
    if source == "v_prediction":
        clean, noise = c * x - s * p, s * x + c * p
    if target == "epsilon":
        return noise
    if target == "sample":
        return clean
    return c * noise - s * clean


def convert_prediction(prediction, x_t, t, alphas_cumprod, source, target):
    rows = [
        one(prediction[i], x_t[i], alphas_cumprod[t[i]], source, target) for i in range(len(x_t))
    ]
    return torch.stack(rows)
""",
    ),
    # --- spaced_timesteps
    dict(
        exercise="spaced_timesteps",
        name="python_lists",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    if spacing == "leading":
        steps = [i * (T // N) for i in range(N)]
    elif spacing == "trailing":
        steps = [round((i + 1) * T / N) - 1 for i in range(N)]
    elif spacing == "linspace":
        steps = [round(i * (T - 1) / (N - 1)) for i in range(N)] if N > 1 else [0]
    else:
        raise ValueError(f"no such spacing: {spacing}")
    return torch.tensor(steps[::-1])
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="arange_and_linspace_downwards",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    if spacing == "linspace":
        return torch.linspace(
            0, num_train_timesteps - 1, num_inference_steps, dtype=torch.double
        ).round().to(torch.int64).flip(0)
    if spacing == "leading":
        return torch.arange(num_inference_steps - 1, -1, -1) * (
            num_train_timesteps // num_inference_steps
        )
    if spacing == "trailing":
        k = torch.arange(num_inference_steps)
        down = num_train_timesteps - k * num_train_timesteps / num_inference_steps
        return torch.round(down).long() - 1
    raise ValueError("spacing must be leading, trailing or linspace")
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="match_and_extra_argument",
        code="""
def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing", offset=0):
    i = torch.arange(num_inference_steps - 1, -1, -1, dtype=torch.float64)
    match spacing:
        case "leading":
            steps = i * (num_train_timesteps // num_inference_steps)
        case "trailing":
            steps = torch.floor((i + 1) * num_train_timesteps / num_inference_steps + 0.5) - 1
        case "linspace":
            steps = torch.floor(i * (num_train_timesteps - 1) / max(1, len(i) - 1) + 0.5)
        case _:
            raise ValueError(spacing)
    return (steps + offset).type(torch.int64)
""",
    ),
    # --- ddim_step
    dict(
        exercise="ddim_step",
        name="padded_schedule",
        code="""
def ddim_step(x_t, noise_pred, t, t_prev, alphas_cumprod, eta=0.0, noise=None, clip_sample=True):
    shape = (-1,) + (1,) * (x_t.ndim - 1)
    bars = torch.cat([torch.ones(1, dtype=alphas_cumprod.dtype), alphas_cumprod]).to(x_t.dtype)
    a, b = bars[t + 1].view(shape), bars[t_prev + 1].view(shape)
    guess = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        guess = torch.clip(guess, -1.0, 1.0)
    noise_pred = (x_t - torch.sqrt(a) * guess) / torch.sqrt(1 - a)
    variance = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
    result = torch.sqrt(b) * guess + torch.sqrt(torch.relu(1 - b - variance)) * noise_pred
    if noise is not None:
        result += torch.sqrt(variance) * noise
    return result
""",
    ),
    dict(
        exercise="ddim_step",
        name="as_a_cosine_and_a_sine",
        code="""
def ddim_step(x_t, noise_pred, t, t_prev, alphas_cumprod, eta=0.0, noise=None, clip_sample=True):
    here = torch.acos(gather(alphas_cumprod.double(), t, like=x_t.double()).sqrt())
    there = torch.acos(alpha_bar_at(alphas_cumprod.double(), t_prev, like=x_t.double()).sqrt())
    x, e = x_t.double(), noise_pred.double()
    clean = (x - here.sin() * e) / here.cos()
    if clip_sample:
        clean = clean.clamp(-1, 1)
        e = (x - here.cos() * clean) / here.sin()
    ratio = here.cos() / there.cos()
    sigma = eta * there.sin() / here.sin() * torch.sqrt(1 - ratio**2)
    x_prev = there.cos() * clean + torch.sqrt((there.sin() ** 2 - sigma**2).clamp(min=0)) * e
    if eta:
        x_prev = x_prev + sigma * noise.double()
    return x_prev.to(x_t.dtype)
""",
    ),
    dict(
        exercise="ddim_step",
        name="loop_over_samples",
        code="""
def ddim_step(x_t, noise_pred, t, t_prev, alphas_cumprod, eta=0.0, noise=None, clip_sample=True):
    rows = []
    for i in range(x_t.shape[0]):
        a = alphas_cumprod[t[i]].item()
        p = alphas_cumprod[t_prev[i]].item() if t_prev[i] >= 0 else 1.0
        x_0 = (x_t[i] - (1 - a) ** 0.5 * noise_pred[i]) / a**0.5
        e = noise_pred[i]
        if clip_sample:
            x_0 = x_0.clamp(-1, 1)
            e = (x_t[i] - a**0.5 * x_0) / (1 - a) ** 0.5
        s = eta * ((1 - p) / (1 - a)) ** 0.5 * (1 - a / p) ** 0.5
        row = p**0.5 * x_0 + max(0.0, 1 - p - s * s) ** 0.5 * e
        if s > 0:
            row = row + s * noise[i]
        rows.append(row)
    return torch.stack(rows)
""",
    ),
    # --- sample_ddim
    dict(exercise="sample_ddim", name="noise_always_drawn", code=SAMPLE_DDIM),
    dict(
        exercise="sample_ddim",
        name="index_loop_and_pairs",
        code="""
def sample_ddim(
    model, x_T, alphas_cumprod, timesteps, eta=0.0, generator=None, clip_sample=True,
    prediction_type="epsilon", on_step=None, verbose=False,
):
    with torch.no_grad():
        sample, batch = x_T.clone(), x_T.shape[0]
        for here, there in pairs(timesteps, alphas_cumprod):
            t = torch.tensor([here] * batch, device=sample.device)
            output = model(sample, t)
            if prediction_type != "epsilon":
                output = convert_prediction(
                    output, sample, t, alphas_cumprod, prediction_type, "epsilon"
                )
            z = None if eta == 0 else torch.randn(
                sample.shape, generator=generator, device=sample.device, dtype=sample.dtype
            )
            target = torch.tensor([there] * batch, device=sample.device)
            sample = ddim_step(
                sample, output, t, target, alphas_cumprod, eta=eta, noise=z,
                clip_sample=clip_sample,
            )
            on_step and on_step(here, sample, output)
        return sample
""",
    ),
    dict(
        exercise="sample_ddim",
        name="recursive",
        code="""
@torch.no_grad()
def sample_ddim(
    model, x_T, alphas_cumprod, timesteps, eta=0.0, generator=None, clip_sample=True,
    prediction_type="epsilon", on_step=None,
):
    if len(timesteps) == 0:
        return x_T
    t = timesteps[0].repeat(len(x_T))
    t_prev = timesteps[1].repeat(len(x_T)) if len(timesteps) > 1 else torch.full_like(t, -1)
    e = convert_prediction(model(x_T, t), x_T, t, alphas_cumprod, prediction_type, "epsilon")
    noise = torch.randn(x_T.shape, generator=generator, dtype=x_T.dtype)
    x = ddim_step(x_T, e, t, t_prev, alphas_cumprod, eta, noise, clip_sample)
    if on_step:
        on_step(int(timesteps[0]), x, e)
    return sample_ddim(
        model, x, alphas_cumprod, timesteps[1:], eta, generator, clip_sample, prediction_type,
        on_step,
    )
""",
    ),
    # --- dpmpp_2m_step
    dict(exercise="dpmpp_2m_step", name="exp_and_where", code=DPM),
    dict(
        exercise="dpmpp_2m_step",
        name="as_in_the_paper_with_r",
        code="""
def dpmpp_2m_step(x_t, x_0_pred, t, t_prev, alphas_cumprod, x_0_pred_last=None, t_last=None):
    bars = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod]).to(x_t.dtype)
    shape = [-1] + [1] * (x_t.ndim - 1)
    alpha, sigma = bars.sqrt(), (1 - bars).sqrt()
    lam = alpha.log() - sigma.log()
    pick = lambda v, steps: v[steps + 1].view(shape)
    h = pick(lam, t_prev) - pick(lam, t)
    D = x_0_pred
    if x_0_pred_last is not None:
        r = (pick(lam, t) - pick(lam, t_last)) / h
        D = (1 + 1 / (2 * r)) * x_0_pred - 1 / (2 * r) * x_0_pred_last
        D = torch.where((t_prev < 0).view(shape), x_0_pred, D)
    return pick(sigma, t_prev) / pick(sigma, t) * x_t - pick(alpha, t_prev) * (
        torch.exp(-h) - 1
    ) * D
""",
    ),
    dict(
        exercise="dpmpp_2m_step",
        name="loop_over_samples",
        code="""
import math


def dpmpp_2m_step(x_t, x_0_pred, t, t_prev, alphas_cumprod, x_0_pred_last=None, t_last=None):
    def lam(step):
        a = float(alphas_cumprod[step])
        return 0.5 * math.log(a / (1 - a))

    rows = []
    for i in range(len(x_t)):
        here, there = int(t[i]), int(t_prev[i])
        if there < 0:
            rows.append(x_0_pred[i])
            continue
        a, p = float(alphas_cumprod[here]), float(alphas_cumprod[there])
        h = lam(there) - lam(here)
        aim = x_0_pred[i]
        if x_0_pred_last is not None:
            aim = aim + h / (2 * (lam(here) - lam(int(t_last[i])))) * (aim - x_0_pred_last[i])
        rows.append(math.sqrt((1 - p) / (1 - a)) * x_t[i] - math.sqrt(p) * math.expm1(-h) * aim)
    return torch.stack(rows)
""",
    ),
    dict(
        exercise="dpmpp_2m_step",
        name="as_ddim_with_another_guess",
        code="""
def dpmpp_2m_step(x_t, x_0_pred, t, t_prev, alphas_cumprod, x_0_pred_last=None, t_last=None):
    a = gather(alphas_cumprod, t, like=x_t)
    p = alpha_bar_at(alphas_cumprod, t_prev, like=x_t)
    aim = x_0_pred.clone()
    if x_0_pred_last is not None:
        going_on = t_prev >= 0
        last = gather(alphas_cumprod, t_last, like=x_t)
        h = (half_log_snr(p) - half_log_snr(a))[going_on]
        h_last = (half_log_snr(a) - half_log_snr(last))[going_on]
        aim[going_on] += 0.5 * h / h_last * (x_0_pred - x_0_pred_last)[going_on]
    noise = (x_t - a.sqrt() * aim) / (1 - a).sqrt()
    return p.sqrt() * aim + (1 - p).sqrt() * noise
""",
    ),
    # --- sample_dpmpp_2m
    dict(exercise="sample_dpmpp_2m", name="plain_loop", code=SAMPLE_DPM),
    dict(
        exercise="sample_dpmpp_2m",
        name="history_in_a_list",
        code="""
def sample_dpmpp_2m(
    model, x_T, alphas_cumprod, timesteps, clip_sample=True, prediction_type="epsilon",
    on_step=None,
):
    x, history = x_T, []
    with torch.no_grad():
        for here, there in pairs(timesteps, alphas_cumprod):
            t = torch.full((x.size(0),), here, device=x.device)
            guess = convert_prediction(
                model(x, t), x, t, alphas_cumprod, source=prediction_type, target="sample"
            )
            guess = guess.clamp(-1, 1) if clip_sample else guess
            last = history[-1] if history else (None, None)
            x = dpmpp_2m_step(x, guess, t, torch.full_like(t, there), alphas_cumprod, *last)
            history.append((guess, t))
            if on_step is not None:
                on_step(here, x, guess)
    return x
""",
    ),
    dict(
        exercise="sample_dpmpp_2m",
        name="first_step_apart",
        code="""
@torch.no_grad()
def sample_dpmpp_2m(
    model, x_T, alphas_cumprod, timesteps, clip_sample=True, prediction_type="epsilon",
    on_step=None,
):
    def look(x, t):
        clean = convert_prediction(model(x, t), x, t, alphas_cumprod, prediction_type, "sample")
        return torch.clamp(clean, -1, 1) if clip_sample else clean

    ends = torch.cat([timesteps[1:], torch.tensor([-1])])
    t = timesteps[:1].expand(len(x_T))
    guess = look(x_T, t)
    x = dpmpp_2m_step(x_T, guess, t, ends[:1].expand(len(x_T)), alphas_cumprod)
    if on_step:
        on_step(int(timesteps[0]), x, guess)
    for i in range(1, len(timesteps)):
        before, t_before = guess, t
        t = timesteps[i : i + 1].expand(len(x))
        guess = look(x, t)
        x = dpmpp_2m_step(
            x, guess, t, ends[i : i + 1].expand(len(x)), alphas_cumprod, before, t_before
        )
        if on_step:
            on_step(int(timesteps[i]), x, guess)
    return x
""",
    ),
    dict(
        exercise="spaced_timesteps",
        name="own_error_class",
        code="""
class UnknownSpacing(ValueError):
    pass


def spaced_timesteps(num_train_timesteps, num_inference_steps, spacing="trailing"):
    T, N = num_train_timesteps, num_inference_steps
    i = torch.arange(N, dtype=torch.float64).flip(0)
    if spacing == "leading":
        return (i * (T // N)).long()
    if spacing == "trailing":
        return (((i + 1) * T / N).round() - 1).long()
    if spacing == "linspace":
        return (i * (T - 1) / max(N - 1, 1)).round().long()
    raise UnknownSpacing(f"{spacing!r} is none of {SPACINGS}")
""",
    ),
    # --- the model called in other ways
    _sample_ddim("model_by_keyword", "", ("model(x, t)", "model(x, t=t)")),
    _sample_ddim("model_forward", "", ("model(x, t)", "model.forward(x, t)")),
    _sample_dpm("model_by_keyword", "", ("model(x, t)", "model(t=t, x_t=x)")),
]
