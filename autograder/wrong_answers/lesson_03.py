"""Lesson 3: mistakes that people make, and right answers written in other ways."""

WRONG = [
    dict(
        exercise="ddpm_loss",
        name="return_is_missing",
        says="returns None",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    F.mse_loss(model(x_t, t), noise)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="one_value_a_column",
        says="its own sample",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    a = alphas_cumprod[t]
    x_t = a.sqrt() * x_0 + (1 - a).sqrt() * noise
    return F.mse_loss(model(x_t, t), noise)
""",
    ),
    dict(
        exercise="ema_update",
        name="buffers_lerped",
        says="whole numbers",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters()):
        slow.lerp_(fast, 1 - decay)
    for slow, fast in zip(ema_model.buffers(), model.buffers()):
        slow.lerp_(fast, 1 - decay)
""",
    ),
    dict(
        exercise="predict_x_0",
        name="roots_exchanged",
        says="roots have changed places",
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, like=x_t)
    return (x_t - a.sqrt() * noise_pred) / (1 - a).sqrt()
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="alpha_since_the_start",
        says="alpha_t was taken as",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, like=x_t)
    before = gather(previous(alphas_cumprod), t, like=x_t)
    alpha, beta = a, 1 - a
    mean = before.sqrt() * beta / (1 - a) * x_0 + alpha.sqrt() * (1 - before) / (1 - a) * x_t
    return mean, (1 - before) / (1 - a) * beta
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="brackets_lost",
        says="Brackets are missing",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, like=x_t)
    before = gather(previous(alphas_cumprod), t, like=x_t)
    alpha = a / before
    beta = 1 - alpha
    mean = before.sqrt() * beta / (1 - a) * x_0 + (alpha.sqrt() * 1 - before) / (1 - a) * x_t
    return mean, (1 - before) / (1 - a) * beta
""",
    ),
    dict(
        exercise="ddpm_step",
        name="noise_of_its_own",
        says="use that",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0 = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0 = x_0.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0, x_t, t, alphas_cumprod)
    return mean + variance.sqrt() * torch.randn_like(x_t)
""",
    ),
    dict(
        exercise="ddpm_step",
        name="arguments_exchanged",
        says="wrong way round",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0 = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0 = x_0.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_t, x_0, t, alphas_cumprod)
    return mean + variance.sqrt() * noise
""",
    ),
    # --- ddpm_loss
    dict(
        exercise="ddpm_loss",
        name="model_sees_clean_picture",
        says="clean picture",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    return F.mse_loss(model(x_0, t), noise)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="compares_with_x_0",
        says=r"The loss is not right\. The prediction is compared with x_0",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    return F.mse_loss(model(x_t, t), x_0)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="sum",
        says="sum where a mean",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    return F.mse_loss(model(x_t, t), noise, reduction="sum")
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="sum_over_pixels",
        says="averaged over the batch only",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    return ((model(x_t, t) - noise) ** 2).sum(dim=(1, 2, 3)).mean()
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="one_loss_a_sample",
        says="single number",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    return ((model(x_t, t) - noise) ** 2).mean(dim=(1, 2, 3))
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="draws_its_own_noise",
        says="argument `noise`",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, torch.randn_like(x_0), t, alphas_cumprod)
    return F.mse_loss(model(x_t, t), noise)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="no_square_roots",
        says="square roots are missing",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_0)
    x_t = alpha_bar_t * x_0 + (1 - alpha_bar_t) * noise
    return F.mse_loss(model(x_t, t), noise)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="scaled_t",
        says="not scaled",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    return F.mse_loss(model(x_t, t / len(alphas_cumprod)), noise)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="absolute_error",
        says="absolute",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    return F.l1_loss(model(x_t, t), noise)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="python_number",
        says="backward",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    return F.mse_loss(model(x_t, t), noise).item()
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="first_samples_t_for_all",
        says="first sample's t",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    alpha_bar = alphas_cumprod[t[0]]
    x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise
    return ((noise - model(x_t, t)) ** 2).mean()
""",
    ),
    # --- predict_x_0
    dict(
        exercise="predict_x_0",
        name="no_roots",
        says="Both square roots",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    return (x_t - (1 - alpha_bar_t) * noise_pred) / alpha_bar_t
""",
    ),
    dict(
        exercise="predict_x_0",
        name="brackets",
        says="brackets",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    return x_t - (1 - alpha_bar_t).sqrt() * noise_pred / alpha_bar_t.sqrt()
""",
    ),
    dict(
        exercise="predict_x_0",
        name="not_made_bright_again",
        says="bright",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    return x_t - (1 - alpha_bar_t).sqrt() * noise_pred
""",
    ),
    dict(
        exercise="predict_x_0",
        name="alpha_for_alpha_bar",
        says="share kept in one step",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    alphas = alphas_cumprod / torch.cat([torch.ones(1), alphas_cumprod[:-1]])
    alpha_t = gather(alphas, t, like=x_t)
    return (x_t - (1 - alpha_t).sqrt() * noise_pred) / alpha_t.sqrt()
""",
    ),
    dict(
        exercise="predict_x_0",
        name="one_step_too_early",
        says="one step too early",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, (t - 1).clamp(min=0), like=x_t)
    return (x_t - (1 - alpha_bar_t).sqrt() * noise_pred) / alpha_bar_t.sqrt()
""",
    ),
    dict(
        exercise="predict_x_0",
        name="clips",
        says="ddpm_step's job",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    x_0_pred = (x_t - (1 - alpha_bar_t).sqrt() * noise_pred) / alpha_bar_t.sqrt()
    return x_0_pred.clamp(-1, 1)
""",
    ),
    dict(
        exercise="predict_x_0",
        name="adds_the_noise",
        says="added where it should be taken away",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    return (x_t + (1 - alpha_bar_t).sqrt() * noise_pred) / alpha_bar_t.sqrt()
""",
    ),
    dict(
        exercise="predict_x_0",
        name="one_t_for_the_batch",
        says="first sample's t",
        also_breaks=["ddpm_step"],
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    a = alphas_cumprod[t[0]]
    return (x_t - (1 - a).sqrt() * noise_pred) / a.sqrt()
""",
    ),
    # --- posterior_mean_variance
    dict(
        exercise="posterior_mean_variance",
        name="wraps_round_at_0",
        says="wraps round",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = alphas_cumprod[t].reshape(-1, 1, 1, 1)
    alpha_bar_prev = alphas_cumprod[t - 1].reshape(-1, 1, 1, 1)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_0
    mean = mean + alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    return mean, beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="stops_at_0",
        says="no noise at all|step before is the clean picture",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = alphas_cumprod[t].reshape(-1, 1, 1, 1)
    alpha_bar_prev = alphas_cumprod[(t - 1).clamp(min=0)].reshape(-1, 1, 1, 1)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_0
    mean = mean + alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    return mean, beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="beta_as_variance",
        says="It is beta_t",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_0
    mean = mean + alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    return mean, beta_t
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="standard_deviation",
        says="standard deviation",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_0
    mean = mean + alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    return mean, (beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)).sqrt()
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="weights_swapped",
        says="changed places",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_t
    mean = mean + alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_0
    return mean, beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="no_root_on_alpha",
        says="root over alpha_t",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_0
    mean = mean + alpha_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    return mean, beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="beta_is_one_minus_alpha_bar",
        says="noise since the start",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_bar_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_0
    mean = mean + alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    return mean, beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="fraction_upside_down",
        says="upside down",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    mean = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t) * x_0
    mean = mean + alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t) * x_t
    return mean, beta_t * (1 - alpha_bar_t) / (1 - alpha_bar_prev)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="flat_variance",
        says=r"\(B, 1, 1, 1\)",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    a, a_prev = alphas_cumprod[t], previous(alphas_cumprod)[t]
    alpha, beta = a / a_prev, 1 - a / a_prev
    w_0, w_t = a_prev.sqrt() * beta / (1 - a), alpha.sqrt() * (1 - a_prev) / (1 - a)
    mean = w_0.reshape(-1, 1, 1, 1) * x_0 + w_t.reshape(-1, 1, 1, 1) * x_t
    return mean, beta * (1 - a_prev) / (1 - a)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="mean_only",
        says="two things",
        also_breaks=["ddpm_step", "sample_ddpm"],
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    a, a_prev = gather(alphas_cumprod, t, x_t), gather(previous(alphas_cumprod), t, x_t)
    alpha = a / a_prev
    return (a_prev.sqrt() * (1 - alpha) * x_0 + alpha.sqrt() * (1 - a_prev) * x_t) / (1 - a)
""",
    ),
    # --- ddpm_step
    dict(
        exercise="ddpm_step",
        name="one_t_for_the_batch",
        says="t holds a step for each sample",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0 = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0 = x_0.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0, x_t, t, alphas_cumprod)
    if t == 0:
        return mean
    return mean + variance.sqrt() * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="noise_at_last_step",
        says="At t = 0 noise is added",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    beta_0 = 1 - alphas_cumprod[0]
    variance = torch.where(t.reshape(-1, 1, 1, 1) == 0, beta_0.to(variance), variance)
    return mean + variance.sqrt() * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="variance_floor_too_high",
        says="floor",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return mean + variance.clamp(min=1e-4).sqrt() * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="variance_for_its_root",
        says="standard deviation",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return mean + variance * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="beta_for_posterior_variance",
        says="√beta_t",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, _ = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    beta_t = 1 - alphas_cumprod[t] / previous(alphas_cumprod)[t]
    beta_t = torch.where(t > 0, beta_t, torch.zeros_like(beta_t))
    return mean + beta_t.sqrt().reshape(-1, 1, 1, 1) * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="never_clips",
        says="not clipped",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return mean + variance.sqrt() * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="always_clips",
        says="clip_sample is False",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod).clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return mean + variance.sqrt() * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="clips_x_prev",
        says="Only the guess of x_0 may be",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    x_prev = mean + variance.sqrt() * noise
    return x_prev.clamp(-1, 1) if clip_sample else x_prev
""",
    ),
    dict(
        exercise="ddpm_step",
        name="jumps_to_the_guess",
        says="jumps to the guess",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    _, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return x_0_pred + variance.sqrt() * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="no_fresh_noise",
        says="mean alone",
        also_breaks=["sample_ddpm"],
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    return posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)[0]
""",
    ),
    dict(
        exercise="ddpm_step",
        name="last_step_for_the_whole_batch",
        says="switched off the noise of the whole batch",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    if t.min() == 0:
        return mean
    return mean + variance.sqrt() * noise
""",
    ),
    # --- sample_ddpm
    dict(
        exercise="sample_ddpm",
        name="upwards",
        says="upwards",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in range(len(alphas_cumprod)):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="stops_before_0",
        says="stops before t = 0|once at each step",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in range(len(alphas_cumprod) - 1, 0, -1):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="starts_at_T",
        says="starts at T",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in range(len(alphas_cumprod), -1, -1):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="t_as_python_int",
        says="Python int",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        noise_pred = model(x, step)
        t = torch.full((len(x),), step)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="one_element_t",
        says=r"shape \(B,\)",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.tensor([step])
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="float_t",
        says="int64",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), float(step))
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t.long(), noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="same_noise_at_every_step",
        says="fresh noise at every step",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    noise = torch.randn(x.shape, generator=generator)
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="x_T_as_noise",
        says="fresh noise at every step",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        x = ddpm_step(x, noise_pred, t, x_T, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="predicted_noise_added",
        says="model predicted is added again",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        x = ddpm_step(x, noise_pred, t, noise_pred, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="uniform_noise",
        says="standard Gaussian",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        noise = torch.rand(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="generator_ignored",
        says="`generator`",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        noise = torch.randn_like(x)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="own_seed",
        says="seed of its own",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    torch.manual_seed(0)
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        x = ddpm_step(x, noise_pred, t, torch.randn_like(x), alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="clip_not_handed_on",
        says="hand clip_sample on",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="fresh_start",
        says="argument x_T",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = torch.randn(x_T.shape, generator=generator)
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="on_step_with_a_row_of_steps",
        says="plain number of the step",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(t, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="on_step_before_the_step",
        says="after the step",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = model(x, t)
        if on_step is not None:
            on_step(step, x, noise_pred)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
    return x
""",
    ),
    # --- ema_update
    dict(
        exercise="ema_update",
        name="decay_swapped",
        says="wrong side",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        slow.mul_(1 - decay).add_(decay * fast)
    for slow, fast in zip(ema_model.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)
""",
    ),
    dict(
        exercise="ema_update",
        name="not_in_place",
        says="in place",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        slow = decay * slow + (1 - decay) * fast
    for slow, fast in zip(ema_model.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)
""",
    ),
    dict(
        exercise="ema_update",
        name="buffers_forgotten",
        says="buffers are forgotten",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
""",
    ),
    dict(
        exercise="ema_update",
        name="buffers_averaged",
        says="buffers are averaged",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    new = model.state_dict()
    for name, slow in ema_model.state_dict().items():
        slow.copy_(decay * slow + (1 - decay) * new[name])
""",
    ),
    dict(
        exercise="ema_update",
        name="moves_the_model",
        says="being trained was changed",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        fast.mul_(1 - decay).add_(decay * slow)
    for slow, fast in zip(ema_model.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)
""",
    ),
    dict(
        exercise="ema_update",
        name="gradients_recorded",
        says="no_grad",
        code="""
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        slow.mul_(decay).add_((1 - decay) * fast)
    for slow, fast in zip(ema_model.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)
""",
    ),
    dict(
        exercise="ema_update",
        name="shares_do_not_add_up",
        says="add up to 1",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        slow.add_((1 - decay) * fast)
    for slow, fast in zip(ema_model.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)
""",
    ),
    dict(
        exercise="ema_update",
        name="shares_memory",
        says="shares its memory",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters(), strict=True):
        slow.data = decay * slow.data + (1 - decay) * fast.data
    for name, fast in model.named_buffers():
        setattr(ema_model, name, fast)
""",
    ),
    # --- what must stay as it was, and what must differ
    dict(
        exercise="ddpm_loss",
        name="new_tensor_with_gradients_of_its_own",
        says="cut off from the model",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    loss = F.mse_loss(model(x_t, t), noise)
    return torch.tensor(loss.item(), requires_grad=True)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="no_grad_around_the_model",
        says="cut off from the model",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    x_t = add_noise(x_0, noise, t, alphas_cumprod)
    with torch.no_grad():
        noise_pred = model(x_t, t)
    return F.mse_loss(noise_pred, noise)
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="mixes_in_place_into_x_0",
        says="changes x_0 in place",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    a = gather(alphas_cumprod, t, like=x_0)
    x_0 *= a.sqrt()
    x_0 += (1 - a).sqrt() * noise
    return F.mse_loss(model(x_0, t), noise)
""",
    ),
    dict(
        exercise="predict_x_0",
        name="in_place_on_x_t",
        says="changes x_t in place",
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, like=x_t)
    x_t -= (1 - a).sqrt() * noise_pred
    x_t /= a.sqrt()
    return x_t
""",
    ),
    dict(
        exercise="predict_x_0",
        name="clamps_the_divisor",
        says="divisor kept from getting small",
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, like=x_t)
    return (x_t - (1 - a).sqrt() * noise_pred) / a.sqrt().clamp(min=1e-3)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="variance_off_for_the_batch_if_one_is_at_0",
        says="variance of the whole batch",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    weight_0 = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t)
    weight_t = alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    mean = weight_0 * x_0 + weight_t * x_t
    variance = beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    if (t == 0).any():
        variance = torch.zeros_like(variance)
    return mean, variance
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="beta_at_the_last_step",
        says="last one T - 1 included",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    weight_0 = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t)
    weight_t = alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    mean = weight_0 * x_0 + weight_t * x_t
    variance = beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    return mean, torch.where(t.reshape(-1, 1, 1, 1) == len(alphas_cumprod) - 1, beta_t, variance)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="variance_of_1000_steps_clamped",
        says="a limit written into the code",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    weight_0 = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t)
    weight_t = alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    mean = weight_0 * x_0 + weight_t * x_t
    variance = beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    return mean, variance.clamp(max=0.25)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="schedule_kept_between_calls",
        says="remembered from the schedule",
        code="""
_tables = {}


def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    T = len(alphas_cumprod)
    if T not in _tables:
        prev = previous(alphas_cumprod)
        alpha = alphas_cumprod / prev
        w0 = prev.sqrt() * (1 - alpha) / (1 - alphas_cumprod)
        wt = alpha.sqrt() * (1 - prev) / (1 - alphas_cumprod)
        _tables[T] = w0, wt, (1 - alpha) * (1 - prev) / (1 - alphas_cumprod)
    w0, wt, v = (gather(table, t, like=x_t) for table in _tables[T])
    return w0 * x_0 + wt * x_t, v
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="in_place_on_both_ends",
        says="changes x_0 in place",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    weight_0 = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t)
    weight_t = alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    x_0 *= weight_0
    x_t *= weight_t
    mean = x_0 + x_t
    variance = beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    return mean, variance
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="returned_the_wrong_way_round",
        says="mean comes first",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = gather(previous(alphas_cumprod), t, like=x_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    weight_0 = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t)
    weight_t = alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    mean = weight_0 * x_0 + weight_t * x_t
    variance = beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    return variance, mean
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="previous_of_the_batch",
        says="takes the whole schedule",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    alpha_bar_prev = previous(alpha_bar_t)
    alpha_t = alpha_bar_t / alpha_bar_prev
    beta_t = 1 - alpha_t
    weight_0 = alpha_bar_prev.sqrt() * beta_t / (1 - alpha_bar_t)
    weight_t = alpha_t.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    mean = weight_0 * x_0 + weight_t * x_t
    variance = beta_t * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
    return mean, variance
""",
    ),
    dict(
        exercise="ddpm_step",
        name="noise_scaled_in_place",
        says="changes noise in place",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return noise.mul_(variance.sqrt()).add_(mean)
""",
    ),
    dict(
        exercise="ddpm_step",
        name="flat_nonzero_mask",
        says="or a mask",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred = x_0_pred.clamp(-1, 1)
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    return mean + (t > 0) * variance.sqrt() * noise
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="as_in_algorithm_2_of_the_paper",
        says="At t = 1 no fresh noise.*paper",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator) if step > 1 else torch.zeros_like(x)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="noise_twice_as_strong_at_the_first_step",
        says="too strong",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        if step == len(alphas_cumprod) - 1:
            noise = 1.3 * noise
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="same_noise_for_every_sample",
        says="All samples get the same",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype).expand(x.shape)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="one_noise_channel",
        says="All channels get the same",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(len(x), 1, *x.shape[2:], generator=generator).expand(x.shape)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="one_number_a_sample",
        says="All pixels of a sample",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(len(x), 1, 1, 1, generator=generator, dtype=x.dtype).expand(x.shape)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="unseeded_generator_of_its_own",
        says="begins with the same seed",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    if generator is None:
        generator = torch.Generator(device=x.device)
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="x_T_overwritten",
        says="changes x_T in place",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x[:] = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="no_no_grad",
        says="hang on the model",
        code="""
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="on_step_gets_fresh_noise",
        says="third argument is the noise that the model",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="noises_exchanged",
        says="have changed places",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise, t, noise_pred, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="hard_coded_1000",
        says="number of steps written into",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(1000)):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="clips_at_the_end",
        says="clip nothing yourself",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x.clamp(-1, 1)
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="returns_early",
        says="inside the loop",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
        return x
""",
    ),
    dict(
        exercise="ema_update",
        name="only_the_top_module",
        says="all layers within it",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for name, slow in ema_model._parameters.items():
        slow.lerp_(model._parameters[name], 1 - decay)
    for name, slow in ema_model._buffers.items():
        slow.copy_(model._buffers[name])
""",
    ),
    dict(
        exercise="ema_update",
        name="weight_and_bias_by_name",
        says="whatever their names",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    ema_model.weight.lerp_(model.weight, 1 - decay)
    ema_model.bias.lerp_(model.bias, 1 - decay)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        if hasattr(model, name):
            getattr(ema_model, name).copy_(getattr(model, name))
""",
    ),
]

RIGHT = [
    # --- ddpm_loss
    dict(
        exercise="ddpm_loss",
        name="by_hand",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    shape = (-1,) + (1,) * (x_0.dim() - 1)
    a = alphas_cumprod[t].view(shape)
    noisy = torch.sqrt(a) * x_0 + torch.sqrt(1.0 - a) * noise
    guess = model(noisy, t)
    return torch.mean(torch.square(guess - noise))
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="flat_mean_and_extra_argument",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod, weight=1.0):
    x_t = add_noise(x_0=x_0, noise=noise, t=t, alphas_cumprod=alphas_cumprod)
    difference = (noise - model(x_t, t)).flatten()
    return weight * difference.dot(difference) / difference.numel()
""",
    ),
    dict(
        exercise="ddpm_loss",
        name="loop_over_samples",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    rows = []
    for i in range(len(x_0)):
        a = alphas_cumprod[t[i]]
        rows.append(a ** 0.5 * x_0[i] + (1 - a) ** 0.5 * noise[i])
    loss = nn.MSELoss()
    return loss(model(torch.stack(rows), t), noise)
""",
    ),
    # --- predict_x_0
    dict(
        exercise="predict_x_0",
        name="as_in_the_code_of_the_paper",
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    a = alphas_cumprod[t][:, None, None, None]
    return torch.rsqrt(a) * x_t - torch.sqrt(1 / a - 1) * noise_pred
""",
    ),
    dict(
        exercise="predict_x_0",
        name="float64_inside",
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    a = alphas_cumprod.double()[t].view(-1, 1, 1, 1)
    clean = (x_t.double() - torch.sqrt(1 - a) * noise_pred.double()) / torch.sqrt(a)
    return clean.to(x_t.dtype)
""",
    ),
    dict(
        exercise="predict_x_0",
        name="loop_and_helper",
        code="""
def _clean(noisy, noise, a):
    return (noisy - noise * (1 - a) ** 0.5) / a ** 0.5


def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    return torch.stack(
        [_clean(x_t[i], noise_pred[i], alphas_cumprod[t[i]]) for i in range(x_t.shape[0])]
    )
""",
    ),
    dict(
        exercise="predict_x_0",
        name="einsum",
        code="""
def predict_x_0(x_t, noise_pred, t, alphas_cumprod):
    a = alphas_cumprod[t]
    difference = x_t - torch.einsum("b,bchw->bchw", (1 - a).sqrt(), noise_pred)
    return torch.einsum("b,bchw->bchw", 1 / a.sqrt(), difference)
""",
    ),
    # --- posterior_mean_variance
    dict(
        exercise="posterior_mean_variance",
        name="where_at_0",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    a = alphas_cumprod[t]
    a_prev = torch.where(t > 0, alphas_cumprod[t - 1], torch.ones_like(a))
    a, a_prev = a.view(-1, 1, 1, 1), a_prev.view(-1, 1, 1, 1)
    alpha = a / a_prev
    mean = (a_prev.sqrt() * (1 - alpha) * x_0 + alpha.sqrt() * (1 - a_prev) * x_t) / (1 - a)
    return mean, (1 - alpha) * (1 - a_prev) / (1 - a)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="whole_schedule_in_float64",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    bars = alphas_cumprod.double()
    before = F.pad(bars[:-1], (1, 0), value=1.0)
    alphas = bars / before
    betas = 1 - alphas
    first = betas * before.sqrt() / (1 - bars)
    second = (1 - before) * alphas.sqrt() / (1 - bars)
    variances = betas * (1 - before) / (1 - bars)
    pick = lambda v: v[t].to(x_t.dtype)[:, None, None, None]
    return pick(first) * x_0 + pick(second) * x_t, pick(variances)
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="product_of_two_bells",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    means, variances = [], []
    for i, step in enumerate(t.tolist()):
        a = alphas_cumprod[step].item()
        a_prev = alphas_cumprod[step - 1].item() if step > 0 else 1.0
        alpha = a / a_prev
        beta = 1 - alpha
        if step == 0:
            variance, mean = 0.0, x_0[i]
        else:
            precision = alpha / beta + 1 / (1 - a_prev)
            variance = 1 / precision
            mean = variance * (alpha ** 0.5 / beta * x_t[i] + a_prev ** 0.5 / (1 - a_prev) * x_0[i])
        means.append(mean)
        variances.append(variance)
    variance = torch.tensor(variances, dtype=x_t.dtype).reshape(-1, 1, 1, 1)
    return torch.stack(means), variance
""",
    ),
    dict(
        exercise="posterior_mean_variance",
        name="returns_a_list",
        code="""
def posterior_mean_variance(x_0, x_t, t, alphas_cumprod):
    bar = gather(alphas_cumprod, t, x_t)
    bar_before = gather(previous(alphas_cumprod), t, x_t)
    beta = 1 - bar / bar_before
    ratio = (1 - bar_before) / (1 - bar)
    mean = torch.zeros_like(x_t)
    mean += bar_before.sqrt() * beta / (1 - bar) * x_0
    mean += (bar / bar_before).sqrt() * ratio * x_t
    return [mean, ratio * beta]
""",
    ),
    # --- ddpm_step
    dict(
        exercise="ddpm_step",
        name="mask_at_0",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    x_0_pred = torch.clip(x_0_pred, min=-1, max=1) if clip_sample else x_0_pred
    mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    std = torch.exp(0.5 * torch.log(variance.clamp(min=1e-20)))
    nonzero = (t != 0).float().reshape(-1, 1, 1, 1)
    return mean + nonzero * std * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="whole_formula_without_helpers",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    view = lambda v: v.reshape(-1, 1, 1, 1)
    a = view(alphas_cumprod[t])
    a_prev = view(torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod])[t])
    alpha, beta = a / a_prev, 1 - a / a_prev
    guess = (x_t - (1 - a).sqrt() * noise_pred) / a.sqrt()
    if clip_sample:
        guess = torch.minimum(torch.maximum(guess, -torch.ones_like(guess)), torch.ones_like(guess))
    mean = (a_prev.sqrt() * beta * guess + alpha.sqrt() * (1 - a_prev) * x_t) / (1 - a)
    return mean + torch.sqrt(beta * (1 - a_prev) / (1 - a)) * noise
""",
    ),
    dict(
        exercise="ddpm_step",
        name="in_place",
        code="""
def ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod, clip_sample=True):
    x_0_pred = predict_x_0(x_t, noise_pred, t, alphas_cumprod)
    if clip_sample:
        x_0_pred.clamp_(-1, 1)
    result, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)
    result.addcmul_(variance.sqrt().expand_as(noise), noise)
    return result
""",
    ),
    # --- sample_ddpm
    dict(
        exercise="sample_ddpm",
        name="while_loop",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x, step = x_T.clone(), len(alphas_cumprod) - 1
    while step >= 0:
        t = torch.ones(x.shape[0], dtype=torch.long, device=x.device) * step
        noise = torch.randn(*x.shape, generator=generator, device=x.device)
        eps = model(x, t)
        x = ddpm_step(x, eps, t, noise, alphas_cumprod, clip_sample=clip_sample)
        if on_step:
            on_step(step, x, eps)
        step -= 1
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="no_noise_drawn_at_0",
        code="""
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    with torch.inference_mode():
        batch = x_T.shape[0]
        for i in range(len(alphas_cumprod))[::-1]:
            t = torch.tensor([i] * batch, device=x_T.device)
            prediction = model(x_T, t)
            if i > 0:
                z = torch.randn(x_T.shape, generator=generator, dtype=x_T.dtype)
            else:
                z = torch.zeros_like(x_T)
            x_T = ddpm_step(x_T, prediction, t, z, alphas_cumprod, clip_sample)
            if on_step is not None:
                on_step(i, x_T, prediction)
    return x_T
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="eval_mode_and_normal_",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    model.eval()
    x = x_T
    total = alphas_cumprod.shape[0]
    for t_int in torch.arange(total - 1, -1, -1).tolist():
        t = x.new_full((x.size(0),), t_int, dtype=torch.int64)
        guess = model(x, t)
        fresh = torch.empty_like(x).normal_(generator=generator)
        x = ddpm_step(x, guess, t, fresh, alphas_cumprod, clip_sample)
        if callable(on_step):
            on_step(t_int, x, guess)
    return x
""",
    ),
    # --- ema_update
    dict(
        exercise="ema_update",
        name="mul_and_add",
        code="""
@torch.no_grad()
def ema_update(ema_model, model, decay):
    for slow, fast in zip(ema_model.parameters(), model.parameters()):
        slow.mul_(decay).add_(fast, alpha=1 - decay)
    for slow, fast in zip(ema_model.buffers(), model.buffers()):
        slow.copy_(fast)
""",
    ),
    dict(
        exercise="ema_update",
        name="through_state_dicts",
        code="""
def ema_update(ema_model, model, decay):
    new = {}
    learnt = {name for name, _ in model.named_parameters()}
    theirs = model.state_dict()
    for name, mine in ema_model.state_dict().items():
        if name in learnt:
            new[name] = decay * mine + (1 - decay) * theirs[name]
        else:
            new[name] = theirs[name]
    ema_model.load_state_dict(new)
""",
    ),
    dict(
        exercise="ema_update",
        name="through_data",
        code="""
def ema_update(ema_model, model, decay):
    params = dict(model.named_parameters())
    for name, p in ema_model.named_parameters():
        p.data = p.data - (1 - decay) * (p.data - params[name].data)
    buffers = dict(model.named_buffers())
    for name, b in ema_model.named_buffers():
        b.data = buffers[name].data.clone()
""",
    ),
    # --- the model called in other ways
    dict(
        exercise="ddpm_loss",
        name="model_by_keyword",
        code="""
def ddpm_loss(model, x_0, t, noise, alphas_cumprod):
    error = model(t=t, x_t=add_noise(x_0, noise, t, alphas_cumprod))
    error -= noise
    return error.square().mean()
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="model_t_by_keyword",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step, dtype=torch.int64)
        noise_pred = model(x, t=t)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_ddpm",
        name="model_forward",
        code="""
@torch.no_grad()
def sample_ddpm(model, x_T, alphas_cumprod, generator=None, clip_sample=True, on_step=None):
    x = x_T
    for step in range(len(alphas_cumprod) - 1, -1, -1):
        t = torch.full((len(x),), step)
        noise_pred = model.forward(x, t)
        noise = torch.randn(x.shape, generator=generator)
        x = ddpm_step(x, noise_pred, t, noise, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
]
