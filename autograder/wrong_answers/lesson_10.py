"""Lesson 10: mistakes that people make on the way from noise to a told picture, and right answers.

Each wrong answer loses the points of its exercise, and the message matches `says`. Each right
answer scores 100. `code` takes the place of the reference; methods replace those of the class.
"""

WRONG = [
    dict(
        exercise="flow_point",
        name="float64_comes_out",
        says="float64",
        code="""
def flow_point(x_0, noise, t):
    t = t.double().reshape(-1, *[1] * (x_0.ndim - 1))
    return (1 - t) * x_0 + t * noise
""",
    ),
    dict(
        exercise="flow_target",
        name="float64",
        says="float64",
        code="""
def flow_target(x_0, noise):
    return noise.double() - x_0.double()
""",
    ),
    dict(
        exercise="sample_euler",
        name="float64_comes_out",
        says="float64",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1.double()
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t, device=x.device))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="encode_prompt",
        name="mask_by_words_there",
        says="mask|words",
        code="""
def encode_prompt(tokenizer, text, prompts):
    device = text.positions.device
    tokens = tokenizer(prompts, len(text.positions)).to(device)
    context, pooled = text(tokens)
    words = torch.tensor([len(prompt.split()) + 2 for prompt in prompts], device=device)
    mask = torch.arange(tokens.shape[1], device=device)[None] < words[:, None]
    return Prompt(context, mask, pooled)
""",
    ),
    dict(
        exercise="sample_euler",
        name="model_keywords",
        says="without names",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x_t=x, t=torch.full((len(x),), t, device=x.device))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="vae_decode_unscaled",
        says="wrong scale",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=5.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))
    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)
    z_0 = sample_euler(direction, self.noise(len(prompts), seed), euler_times(num_inference_steps, self.shift), on_step)
    return to_pil(self.space.vae.decode(z_0 * self.space.scaling_factor))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="global_prompt_scale",
        says="always 5",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=5.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))
    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + 5.0 * (cond - uncond)
    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="sample_euler",
        name="asks_about_the_start",
        says="always asked about x_1",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, n in zip(times[:-1].tolist(), times[1:].tolist()):
        d = model(x_1, torch.full((len(x),), t, device=x.device))
        x = x + (n - t) * d
        if on_step is not None:
            on_step(n, x, d)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="on_step_unasked",
        says="on_step may be None",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, n in zip(times[:-1].tolist(), times[1:].tolist()):
        d = model(x, torch.full((len(x),), t, device=x.device))
        x = x + (n - t) * d
        on_step(n, x, d)
    return x
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="one_empty_prompt_for_all",
        says="an empty prompt of its own",
        code="""
class TextToImage(Pipeline):
    @torch.no_grad()
    def __call__(self, prompt, num_inference_steps=25, guidance_scale=5.0, seed=0, num_images=1, on_step=None):
        prompts = repeat_prompts(prompt, num_images)
        told = encode_prompt(self.tokenizer, self.text, [*prompts, ""])

        def direction(z, t):
            if guidance_scale == 1:
                return self.transformer(z, t, *(part[:-1] for part in told))
            both = self.transformer(torch.cat([z, z]), torch.cat([t, t]), *told)
            cond, uncond = both.chunk(2)
            return uncond + guidance_scale * (cond - uncond)

        z = sample_euler(direction, self.noise(len(prompts), seed), euler_times(num_inference_steps, self.shift), on_step)
        return to_pil(self.space.decode(z))
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="the_logit_itself",
        says="not a number|NaN.*This is the logit",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.logit(mean + std * gaussian)
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="time_before_the_point",
        says="have changed places",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    return F.mse_loss(model(t, flow_point(x_0, noise, t)), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="times_and_noise_of_its_own",
        says="of your own",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    t, noise = torch.rand_like(t), torch.randn_like(noise)
    return F.mse_loss(model(flow_point(x_0, noise, t), t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="sample_euler",
        name="always_from_the_beginning",
        says="asks the model there",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x_1, torch.full((len(x_1),), t, device=x_1.device))
        x = x_1 + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    # --- flow_point ---
    dict(
        exercise="flow_point",
        name="t_and_1_minus_t_swapped",
        says="changed places",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    return t * x_0 + (1 - t) * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="square_roots",
        says="road is straight",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    return (1 - t).sqrt() * x_0 + t.sqrt() * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="noise_taken_away",
        says="noise is taken away",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    return (1 - t) * x_0 - t * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="picture_stays",
        says="still there",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    return x_0 + t * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="all_of_the_noise",
        says="its share is t",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    return (1 - t) * x_0 + noise
""",
    ),
    dict(
        exercise="flow_point",
        name="not_broadcast",
        says="meets|wrong axis",
        code="""
def flow_point(x_0, noise, t):
    return (1 - t) * x_0 + t * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="t_in_front",
        says="meets|wrong axis",
        code="""
def flow_point(x_0, noise, t):
    t = t[None]
    return (1 - t) * x_0 + t * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="t_as_large_as_the_picture",
        says="any number of axes",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(x_0.shape)
    return (1 - t) * x_0 + t * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="four_axes_always",
        says="fits pictures alone",
        code="""
def flow_point(x_0, noise, t):
    t = t[:, None, None, None]
    return (1 - t) * x_0 + t * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="first_t_for_all",
        says="first sample's t",
        code="""
def flow_point(x_0, noise, t):
    t = t[0]
    return (1 - t) * x_0 + t * noise
""",
    ),
    dict(
        exercise="flow_point",
        name="the_other_way",
        says="goes the other way",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    return x_0 + t * (x_0 - noise)
""",
    ),
    dict(
        exercise="flow_point",
        name="in_place",
        says="in place",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    x_0 *= 1 - t
    x_0 += t * noise
    return x_0
""",
    ),
    dict(
        exercise="flow_point",
        name="t_counts_steps",
        says="divided by 1000",
        code="""
def flow_point(x_0, noise, t):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1)) / 1000
    return (1 - t) * x_0 + t * noise
""",
    ),
    # --- flow_target ---
    dict(
        exercise="flow_target",
        name="x_0_minus_noise",
        says="from the noise to the picture",
        code="""
def flow_target(x_0, noise):
    return x_0 - noise
""",
    ),
    dict(
        exercise="flow_target",
        name="the_noise_as_in_lesson_3",
        says="lesson 3's target",
        code="""
def flow_target(x_0, noise):
    return noise
""",
    ),
    dict(
        exercise="flow_target",
        name="sum",
        says="difference",
        code="""
def flow_target(x_0, noise):
    return noise + x_0
""",
    ),
    dict(
        exercise="flow_target",
        name="the_picture",
        says="This is the picture",
        code="""
def flow_target(x_0, noise):
    return x_0
""",
    ),
    dict(
        exercise="flow_target",
        name="only_the_picture_fades",
        says="that of t · noise is missing",
        code="""
def flow_target(x_0, noise):
    return -x_0
""",
    ),
    dict(
        exercise="flow_target",
        name="absolute",
        says="directions have signs",
        code="""
def flow_target(x_0, noise):
    return torch.abs(noise - x_0)
""",
    ),
    dict(
        exercise="flow_target",
        name="length_one",
        says="brought to length 1",
        code="""
def flow_target(x_0, noise):
    d = noise - x_0
    return d / d.flatten(1).norm(dim=1).reshape(-1, *[1] * (d.ndim - 1))
""",
    ),
    dict(
        exercise="flow_target",
        name="in_place",
        says="in place",
        code="""
def flow_target(x_0, noise):
    noise -= x_0
    return noise
""",
    ),
    dict(
        exercise="flow_target",
        name="no_return",
        says="None",
        code="""
def flow_target(x_0, noise):
    target = noise - x_0
""",
    ),
    # --- rectified_flow_loss ---
    dict(
        exercise="rectified_flow_loss",
        name="target_turned_round",
        says="x_0 − noise",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, t), x_0 - noise)
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="noise_as_target",
        says="as in lesson 3",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, t), noise)
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="picture_as_target",
        says="compared with the picture",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, t), x_0)
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="model_sees_the_picture",
        says="shown the picture",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    return F.mse_loss(model(x_0, t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="model_sees_the_noise",
        says="shown the noise",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    return F.mse_loss(model(noise, t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="ends_exchanged",
        says="point at 1 − t",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(noise, x_0, t)
    return F.mse_loss(model(x_t, t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="t_times_1000",
        says="1000 · t",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, 1000 * t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="time_turned_round",
        says="gets 1 − t",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, 1 - t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="summed",
        says="added up",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, t), flow_target(x_0, noise), reduction="sum")
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="missing_mean",
        says="mean is missing",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return (model(x_t, t) - flow_target(x_0, noise)) ** 2
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="no_square",
        says="square is missing",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return (flow_target(x_0, noise) - model(x_t, t)).mean()
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="absolute_error",
        says="absolute error",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.l1_loss(model(x_t, t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="a_loss_each",
        says="its own loss",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    off = model(x_t, t) - flow_target(x_0, noise)
    return off.square().flatten(1).mean(1)
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="item",
        says="plain number",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, t), flow_target(x_0, noise)).item()
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="model_without_gradients",
        says="does not teach the model anything",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    with torch.no_grad():
        direction = model(x_t, t)
    return F.mse_loss(direction, flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="its_own_times",
        says="other times than the t that is given",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    t = torch.rand(len(x_0)).to(x_0)
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t, t), flow_target(x_0, noise))
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="t_with_axes",
        says="one t a sample",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))
    x_t = (1 - t) * x_0 + t * noise
    return F.mse_loss(model(x_t, t), noise - x_0)
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="time_forgotten",
        says="called as model\\(x_t, t\\)",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    x_t = flow_point(x_0, noise, t)
    return F.mse_loss(model(x_t), flow_target(x_0, noise))
""",
    ),
    # --- logit_normal_times ---
    dict(
        exercise="logit_normal_times",
        name="no_sigmoid",
        says="sigmoid is missing",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return mean + std * gaussian
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="uniform",
        says="numbers of its own",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.rand(len(gaussian))
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="normal_curve",
        says="own curve",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return 0.5 * (1 + torch.erf((mean + std * gaussian) / 2**0.5))
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="std_outside",
        says="behind the sigmoid",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return std * torch.sigmoid(mean + gaussian)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="mean_outside",
        says="behind the sigmoid",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return mean + torch.sigmoid(std * gaussian)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="std_times_mean_too",
        says="multiplies the mean",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.sigmoid(std * (gaussian + mean))
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="normalised",
        says="mean and std away",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.sigmoid((gaussian - mean) / std)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="mean_taken_away",
        says="mean is taken away",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.sigmoid(std * gaussian - mean)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="arguments_forgotten",
        says="not used",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.sigmoid(gaussian)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="mean_forgotten",
        says="mean is not used",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.sigmoid(std * gaussian)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="backwards",
        says="Time runs backwards",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return 1 - torch.sigmoid(mean + std * gaussian)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="tanh",
        says="tanh",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.tanh(mean + std * gaussian)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="variance_for_std",
        says="root of std",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.sigmoid(mean + std**0.5 * gaussian)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="softmax",
        says="softmax",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return torch.softmax(mean + std * gaussian, dim=0)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="in_place",
        says="in place",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    gaussian *= std
    gaussian += mean
    return gaussian.sigmoid()
""",
    ),
    # --- sample_euler ---
    dict(
        exercise="sample_euler",
        name="wrong_sign",
        says="wrong way",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t - t_next) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="t_next_to_the_model",
        says="asked about t_next",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t_next))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="equal_steps",
        says="1 / N long",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x - direction / (len(times) - 1)
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="t_is_one_number",
        says="one t a sample",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.tensor(t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="t_is_a_float",
        says="two tensors",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, t)
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="last_step_left_out",
        says="last step is left out",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-2].tolist(), times[1:-1].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="a_step_too_many",
        says="step too many",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times.tolist(), [*times[1:].tolist(), 0.0]):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="from_the_start_each_time",
        says="starts again from x_1",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x_1 + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="asked_once",
        says="asked once",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    direction = model(x, times[:1].expand(len(x)))
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        n = len(times)
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="all_the_way_each_time",
        says="all the way",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x - t * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="heun",
        says="Heun",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        ahead = model(x + (t_next - t) * direction, torch.full((len(x),), t_next))
        x = x + (t_next - t) * (direction + ahead) / 2
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="t_of_lesson_3",
        says="1000 · t",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), 1000 * t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="times_turned_round",
        says="from the last to the first",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times.flip(0)[:-1].tolist(), times.flip(0)[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="on_step_forgotten",
        says="called once after each step",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="on_step_with_t",
        says="where the step began",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="on_step_with_the_old_x",
        says="before the step",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        old = x
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, old, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="on_step_without_a_check",
        says="may be None|NoneType|call it only",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="on_step_exchanged",
        says="changed places",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, direction, x)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="in_place",
        says="in place",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x += (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="x_lost",
        says="x is lost",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="the_whole_way_comes_back",
        says="torch.Tensor",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x, path = x_1, []
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        path.append(x)
        if on_step is not None:
            on_step(t_next, x, direction)
    return path
""",
    ),
    dict(
        exercise="sample_euler",
        name="t_left_on_the_cpu",
        says="t belongs where x is",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1].tolist(), times[1:].tolist()):
        direction = model(x, torch.full((len(x),), t))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="a_row_of_times_left_on_the_cpu",
        says="t belongs where x is",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times, times[1:]):
        direction = model(x, t.repeat(len(x)))
        x = x + (t_next - t).item() * direction
        if on_step is not None:
            on_step(t_next.item(), x, direction)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="on_step_with_a_tensor",
        says="time as a tensor",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, t_next in zip(times[:-1], times[1:]):
        direction = model(x, torch.full((len(x),), t, device=x.device))
        x = x + (t_next - t) * direction
        if on_step is not None:
            on_step(t_next, x, direction)
    return x
""",
    ),
    # --- encode_prompt ---
    dict(
        exercise="encode_prompt",
        name="a_plain_tuple",
        says="return Prompt",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions)).to(text.positions.device)
    context, pooled = text(tokens)
    return context, words_mask(tokens, text.end_token), pooled
""",
    ),
    dict(
        exercise="encode_prompt",
        name="mask_inverted",
        says="inverted",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, ~words_mask(tokens, text.end_token), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="mask_without_the_end",
        says="end token itself is masked",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, tokens != text.end_token, pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="mask_of_ends",
        says="True at the end tokens alone",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, tokens == text.end_token, pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="everything_counts",
        says="All places are True",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, torch.ones_like(tokens, dtype=torch.bool), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="mask_of_numbers",
        says="mask should be bool",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token).long(), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="pooled_from_the_start",
        says="start token's vector",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), context[:, 0])
""",
    ),
    dict(
        exercise="encode_prompt",
        name="pooled_from_the_last_place",
        says="last place",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), context[:, -1])
""",
    ),
    dict(
        exercise="encode_prompt",
        name="pooled_is_the_mean",
        says="mean over all places",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), context.mean(1))
""",
    ),
    dict(
        exercise="encode_prompt",
        name="pooled_is_the_mean_of_words",
        says="mean over the words",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    mask = words_mask(tokens, text.end_token)
    kept = context * mask[..., None]
    return Prompt(context, mask, kept.sum(1) / mask.sum(1, keepdim=True))
""",
    ),
    dict(
        exercise="encode_prompt",
        name="another_order",
        says="another order",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, pooled, words_mask(tokens, text.end_token))
""",
    ),
    dict(
        exercise="encode_prompt",
        name="blanked",
        says="set to 0",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    mask = words_mask(tokens, text.end_token)
    return Prompt(context * mask[..., None], mask, pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="length_77",
        says="another length",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, 77)
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="as_long_as_the_longest",
        says="another length",
        code="""
def encode_prompt(tokenizer, text, prompts):
    length = max(len(p.split()) for p in prompts) + 2
    tokens = tokenizer(prompts, length)
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="no_length",
        says="another length",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts)
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="one_text_at_a_time_as_text",
        says="list of texts",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = torch.cat([tokenizer(p, len(text.positions)) for p in prompts])
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="texts_to_the_encoder",
        says="tokens that the tokenizer gave",
        code="""
def encode_prompt(tokenizer, text, prompts):
    context, pooled = text(prompts)
    tokens = tokenizer(prompts, len(text.positions))
    return Prompt(context, words_mask(tokens, text.end_token), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="no_mask_at_all",
        says="three things",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return context, pooled
""",
    ),
    dict(
        exercise="encode_prompt",
        name="mask_without_the_start",
        says="start token is masked",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    mask = words_mask(tokens, text.end_token)
    mask[:, 0] = False
    return Prompt(context, mask, pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="tokens_left_on_the_cpu",
        says="tokens that lie on the CPU",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), pooled)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="mask_left_on_the_cpu",
        says="left on the CPU",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions))
    context, pooled = text(tokens.to(text.positions.device))
    return Prompt(context, words_mask(tokens, text.end_token), pooled)
""",
    ),
    # --- TextToImage.__call__ ---
    dict(
        exercise="TextToImage.__call__",
        name="guidance_1_plus_w",
        says="1 \\+ w",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + (1 + guidance_scale) * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="from_cond",
        says="one too strong",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return cond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="cond_and_uncond_exchanged",
        says="changed places",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return cond + guidance_scale * (uncond - cond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="halves_exchanged",
        says="changed places",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    both = [torch.cat(pair) for pair in zip(wanted, nothing)]

    def direction(z_t, t):
        if guidance_scale == 1:
            return self.transformer(z_t, t, *wanted)
        answers = self.transformer(torch.cat([z_t, z_t]), torch.cat([t, t]), *both)
        uncond, cond = answers.chunk(2)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="no_guidance",
        says="There is no guidance",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)

    def direction(z_t, t):
        return self.transformer(z_t, t, *wanted)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="off_below_1_too",
        says="There is no guidance",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale <= 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="difference_forgotten",
        says="difference is missing",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * cond

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="uncond_in_front_forgotten",
        says="uncond in front is missing",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="twice_the_price",
        says="asked once for each picture",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="no_empty_prompt",
        says="never reads it",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = Prompt(torch.zeros_like(wanted.context), wanted.mask, torch.zeros_like(wanted.pooled))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="word_for_the_empty_prompt",
        says="never reads it",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, ["nothing"] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="one_empty_prompt_for_all",
        says="as many of each|latents",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""])

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="t_not_doubled",
        says="doubles z_t and t",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    both = [torch.cat(pair) for pair in zip(nothing, wanted)]

    def direction(z_t, t):
        answers = self.transformer(torch.cat([z_t, z_t]), t, *both)
        uncond, cond = answers.chunk(2)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="prompts_joined_as_they_are",
        says="field by field|zero|five tensors|latents",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        answers = self.transformer(torch.cat([z_t, z_t]), torch.cat([t, t]), *(nothing + wanted))
        uncond, cond = answers.chunk(2)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="prompts_in_the_wrong_order",
        says="wrong order",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, 1) * num_images
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="num_images_ignored",
        says="pictures; yours decodes|rows",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, 1)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="seed_ignored",
        says="seed 0 whatever",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), 0)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="fresh_noise",
        says="begins somewhere else",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = torch.randn(len(prompts), *self.transformer.network.picture)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="one_noise_for_all",
        says="the same for several",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(1, seed).expand(len(prompts), -1, -1, -1)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="scaling_forgotten",
        says="wrong scale",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.vae.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="scaled_twice",
        says="once too often",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0 / self.space.scaling_factor))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="shift_forgotten",
        says="self.shift is not used",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="steps_ignored",
        says="always 25",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(25, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="a_step_too_few",
        says="step too few",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps - 1, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="scale_ignored",
        says="always 3",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + 3.0 * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="on_step_not_handed_on",
        says="hand it on",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="not_decoded",
        says="never decoded",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(z_0)
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="tensors_come_back",
        says="list of PIL images",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return self.space.decode(z_0)
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="arrays_come_back",
        says="hold PIL images",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    images = self.space.decode(z_0).clamp(-1, 1)
    return [(255 * (image + 1) / 2).byte() for image in images]
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="first_picture_alone",
        says="come back",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))[:1]
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="pictures_from_0_to_1",
        says="by to_pil",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    images = (255 * self.space.decode(z_0).clamp(0, 1)).byte().permute(0, 2, 3, 1)
    return [Image.fromarray(image.numpy()) for image in images]
""",
    ),
]

RIGHT = [
    dict(
        exercise="rectified_flow_loss",
        name="point_and_target_without_gradients",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    with torch.no_grad():
        x_t = flow_point(x_0, noise, t)
        target = flow_target(x_0, noise)
    return F.mse_loss(model(x_t, t), target)
""",
    ),
    dict(
        exercise="flow_point",
        name="lerp_plain",
        code="""
def flow_point(x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    return torch.lerp(x_0, noise, t.view(t.shape + (1,) * (x_0.dim() - 1)))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="diffusers_idiom_vae_decode",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=5.0, seed=0, num_images=1, on_step=None):

    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))
    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return uncond + guidance_scale * (cond - uncond)
    z_0 = sample_euler(direction, self.noise(len(prompts), seed), euler_times(num_inference_steps, self.shift), on_step)
    return to_pil(self.space.vae.decode(z_0 / self.space.scaling_factor))
""",
    ),
    # --- flow_point ---
    dict(
        exercise="flow_point",
        name="lerp",
        code="""
def flow_point(x_0, noise, t):
    share = t.to(x_0.dtype)
    while share.ndim < x_0.ndim:
        share = share.unsqueeze(-1)
    return torch.lerp(x_0, noise, share)
""",
    ),
    dict(
        exercise="flow_point",
        name="a_loop_over_samples",
        code="""
def flow_point(x_0, noise, t):
    return torch.stack([(1 - s) * a + s * b for a, b, s in zip(x_0, noise, t)])
""",
    ),
    dict(
        exercise="flow_point",
        name="along_the_way",
        code="""
def flow_point(x_0, noise, t):
    b = len(x_0)
    flat, far = x_0.reshape(b, -1), noise.reshape(b, -1)
    return (flat + t[:, None] * (far - flat)).reshape(x_0.shape)
""",
    ),
    dict(
        exercise="flow_point",
        name="moved_axes_and_float64",
        code="""
def flow_point(x_0, noise, t):
    a, b = x_0.double().movedim(0, -1), noise.double().movedim(0, -1)
    return ((1 - t) * a + t * b).movedim(-1, 0).to(x_0.dtype)
""",
    ),
    # --- flow_target ---
    dict(
        exercise="flow_target",
        name="sub",
        code="""
def flow_target(x_0, noise):
    return torch.sub(noise, x_0)
""",
    ),
    dict(
        exercise="flow_target",
        name="from_two_points",
        code="""
def flow_target(x_0, noise):
    zero, one = torch.zeros(len(x_0)), torch.ones(len(x_0))
    return flow_point(x_0, noise, one) - flow_point(x_0, noise, zero)
""",
    ),
    dict(
        exercise="flow_target",
        name="minus_picture_plus_noise",
        code="""
def flow_target(x_0, noise):
    target = -1.0 * x_0
    target += noise
    return target
""",
    ),
    # --- rectified_flow_loss ---
    dict(
        exercise="rectified_flow_loss",
        name="by_hand",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    s = t.reshape(-1, *[1] * (x_0.ndim - 1)).to(x_0.dtype)
    off = model((1 - s) * x_0 + s * noise, t) - (noise - x_0)
    return (off * off).mean()
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="mean_of_means",
        code="""
def rectified_flow_loss(model, x_0, t, noise):
    predicted = model(flow_point(x_0, noise, t), t)
    each = (flow_target(x_0, noise) - predicted).pow(2).flatten(1).mean(dim=1)
    return each.mean()
""",
    ),
    dict(
        exercise="rectified_flow_loss",
        name="mse_layer_and_helper",
        code="""
def straight(x_0, noise, t):
    return flow_point(x_0, noise, t), flow_target(x_0, noise)


def rectified_flow_loss(model, x_0, t, noise, reduction="mean"):
    where, there = straight(x_0, noise, t)
    return nn.MSELoss(reduction=reduction)(model(where, t), there)
""",
    ),
    # --- logit_normal_times ---
    dict(
        exercise="logit_normal_times",
        name="by_exp",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    z = mean + std * gaussian
    return 1 / (1 + torch.exp(-z))
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="by_tanh",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    return 0.5 + 0.5 * torch.tanh((gaussian * std + mean) / 2)
""",
    ),
    dict(
        exercise="logit_normal_times",
        name="inverse_of_logit",
        code="""
def logit_normal_times(gaussian, mean=0.0, std=1.0):
    z = gaussian.double().mul(std).add(mean)
    return F.sigmoid(z).to(gaussian.dtype)
""",
    ),
    # --- sample_euler ---
    dict(
        exercise="sample_euler",
        name="by_index",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1.clone()
    for i in range(len(times) - 1):
        t = times[i].to(x.device).expand(x.shape[0])
        step = times[i + 1] - times[i]
        v = model(x, t)
        x = x + step.to(x.dtype) * v
        if on_step:
            on_step(times[i + 1].item(), x, v)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="steps_from_diff",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    x = x_1
    for t, dt in zip(times, times.diff()):
        v = model(x, t * torch.ones(len(x), device=x.device))
        x = torch.add(x, v, alpha=float(dt))
        if on_step is not None:
            on_step(float(t + dt), x, v)
    return x
""",
    ),
    dict(
        exercise="sample_euler",
        name="while_and_in_place_on_a_copy",
        code="""
def sample_euler(model, x_1, times, on_step=None):
    from_here, i = x_1.detach().clone(), 0
    stops = [float(t) for t in times]
    while i + 1 < len(stops):
        v = model(from_here.clone(), from_here.new_tensor([stops[i]] * len(from_here)))
        from_here -= (stops[i] - stops[i + 1]) * v
        i += 1
        if on_step is not None:
            on_step(stops[i], from_here.clone(), v)
    return from_here
""",
    ),
    dict(
        exercise="sample_euler",
        name="recursion",
        code="""
def walk_on(model, x, times, on_step):
    if len(times) < 2:
        return x
    v = model(x, torch.full((len(x),), float(times[0])).to(x))
    x = x + (float(times[1]) - float(times[0])) * v
    if on_step is not None:
        on_step(float(times[1]), x, v)
    return walk_on(model, x, times[1:], on_step)


def sample_euler(model, x_1, times, on_step=None):
    check_times(times)
    return walk_on(model, x_1, times, on_step)
""",
    ),
    # --- encode_prompt ---
    dict(
        exercise="encode_prompt",
        name="mask_by_hand",
        code="""
def encode_prompt(tokenizer, text, prompts):
    length = text.positions.shape[0]
    tokens = tokenizer(list(prompts), length).to(text.positions.device)
    hidden, end = text(tokens)
    places = torch.arange(length, device=tokens.device)
    last = (tokens == text.end_token).int().argmax(dim=1)
    return Prompt(context=hidden, mask=places[None] <= last[:, None], pooled=end)
""",
    ),
    dict(
        exercise="encode_prompt",
        name="one_by_one",
        code="""
def encode_prompt(tokenizer, text, prompts):
    parts = []
    for prompt in prompts:
        tokens = tokenizer([prompt], len(text.positions)).to(text.tokens.weight.device)
        context, pooled = text(tokens)
        parts.append((context[0], words_mask(tokens, text.end_token)[0], pooled[0]))
    return Prompt(*(torch.stack(kind) for kind in zip(*parts)))
""",
    ),
    dict(
        exercise="encode_prompt",
        name="rows_from_encode",
        code="""
def encode_prompt(tokenizer, text, prompts):
    device = next(text.parameters()).device
    rows = [tokenizer.encode(prompt, len(text.positions)) for prompt in prompts]
    tokens = torch.tensor(rows, device=device)
    out = text(tokens)
    ends = tokens.eq(text.end_token)
    mask = ends.cumsum(1).sub(ends.int()).eq(0)
    return Prompt(out[0], mask, out[1])
""",
    ),
    dict(
        exercise="encode_prompt",
        name="pooled_by_hand",
        code="""
def encode_prompt(tokenizer, text, prompts):
    tokens = tokenizer(prompts, len(text.positions)).to(text.positions.device)
    context, _ = text(tokens)
    mask = words_mask(tokens, text.end_token)
    end = mask.sum(dim=1) - 1
    return Prompt(context, mask, context[torch.arange(len(context)), end])
""",
    ),
    # --- TextToImage.__call__ ---
    dict(
        exercise="TextToImage.__call__",
        name="both_in_one_call",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    both = Prompt(*(torch.cat(pair) for pair in zip(wanted, nothing)))

    def direction(z_t, t):
        if guidance_scale == 1:
            return self.transformer(z_t, t, *wanted)
        answers = self.transformer(z_t.repeat(2, 1, 1, 1), t.repeat(2), *both)
        cond, uncond = answers.chunk(2)
        return torch.lerp(uncond, cond, float(guidance_scale))

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="shares",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        cond = self.transformer(z_t, t, *wanted)
        if guidance_scale == 1:
            return cond
        uncond = self.transformer(z_t, t, *nothing)
        return guidance_scale * cond + (1 - guidance_scale) * uncond

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="a_helper_and_keywords",
        code="""
def guided(cond, uncond, scale):
    return (cond - uncond).mul(scale).add(uncond)


def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = repeat_prompts(prompt, num_images)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    nothing = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        named = wanted._asdict() if hasattr(wanted, "_asdict") else dict(zip(("context", "mask", "pooled"), wanted))
        cond = self.transformer(x_t=z_t, t=t, **named)
        if guidance_scale == 1.0:
            return cond
        return guided(cond, self.transformer(z_t, t, *nothing), guidance_scale)

    noise = self.noise(len(prompts), seed)
    times = euler_times(num_inference_steps, self.shift)
    z_0 = sample_euler(direction, noise, times, on_step)
    return to_pil(self.space.decode(z_0))
""",
    ),
    dict(
        exercise="TextToImage.__call__",
        name="picture_by_picture",
        code="""
def __call__(self, prompt, num_inference_steps=25, guidance_scale=3.0, seed=0, num_images=1, on_step=None):
    prompts = [prompt] if isinstance(prompt, str) else prompt
    prompts = [text for text in prompts for _ in range(num_images)]
    noise = self.noise(len(prompts), seed)
    wanted = encode_prompt(self.tokenizer, self.text, prompts)
    empty = encode_prompt(self.tokenizer, self.text, [""] * len(prompts))

    def direction(z_t, t):
        rows = []
        for i in range(len(z_t)):
            args = z_t[i : i + 1], t[i : i + 1]
            said = self.transformer(*args, *(part[i : i + 1] for part in wanted))
            if guidance_scale != 1:
                calm = self.transformer(*args, *(part[i : i + 1] for part in empty))
                said = calm + guidance_scale * (said - calm)
            rows.append(said)
        return torch.cat(rows)

    z_0 = sample_euler(direction, noise, euler_times(num_inference_steps, self.shift), on_step)
    found = []
    for z in z_0:
        picture = self.space.decode(z[None])[0].clamp(-1, 1)
        values = ((picture + 1) * 127.5).round().to(torch.uint8)
        found.append(Image.fromarray(values.permute(1, 2, 0).cpu().numpy()))
    return found
""",
    ),
]
