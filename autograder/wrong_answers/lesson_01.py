"""Lesson 1: answers that people really give. Parsed, never imported; each entry is checked in CI."""

WRONG = [
    dict(
        exercise="cosine_betas",
        name="last_moment_left_out",
        says="u stops at",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.arange(num_train_timesteps, dtype=torch.float64) / num_train_timesteps
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="brackets_lost",
        says="Brackets are missing",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos(u + s / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="linear_betas",
        name="arange_leaves_out_the_end",
        says="torch.arange leaves out its end",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    stride = (beta_end - beta_start) / (num_train_timesteps - 1)
    return torch.arange(beta_start, beta_end - stride / 2, stride)
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="first_beta_is_alpha_bar_0",
        says="the first beta is 1 - ᾱ_0",
        code="""
def rescale_zero_terminal_snr(betas):
    root = (1 - betas).cumprod(0).sqrt()
    squared = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return torch.cat([squared[:1], 1 - squared[1:] / squared[:-1]])
""",
    ),
    dict(
        exercise="linear_betas",
        name="a_list",
        says="torch.tensor(...)",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    step = (beta_end - beta_start) / (num_train_timesteps - 1)
    return [beta_start + t * step for t in range(num_train_timesteps)]
""",
    ),
    # linear_betas
    dict(
        exercise="linear_betas",
        name="end_left_out",
        says="T - 1 strides",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    t = torch.arange(num_train_timesteps)
    return beta_start + (beta_end - beta_start) * t / num_train_timesteps
""",
    ),
    dict(
        exercise="linear_betas",
        name="counts_from_one",
        says="t counts from 0",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    betas = []
    for t in range(1, num_train_timesteps + 1):
        betas.append(beta_start + (beta_end - beta_start) * t / num_train_timesteps)
    return torch.tensor(betas)
""",
    ),
    dict(
        exercise="linear_betas",
        name="scaled_linear",
        says="scaled_linear",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps) ** 2
""",
    ),
    dict(
        exercise="linear_betas",
        name="arguments_ignored",
        says="arguments, use them",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(0.0001, 0.02, num_train_timesteps)
""",
    ),
    dict(
        exercise="linear_betas",
        name="returns_alphas",
        says="alphas, 1 - beta",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    betas = torch.linspace(beta_start, beta_end, num_train_timesteps)
    return 1.0 - betas
""",
    ),
    dict(
        exercise="linear_betas",
        name="numpy_float64",
        says="float32",
        code="""
import numpy as np

def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    return torch.from_numpy(np.linspace(beta_start, beta_end, num_train_timesteps))
""",
    ),
    dict(
        exercise="linear_betas",
        name="geometric",
        says="geometric",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    return torch.logspace(math.log10(beta_start), math.log10(beta_end), num_train_timesteps)
""",
    ),
    dict(
        exercise="linear_betas",
        name="one_too_many",
        says="one value too many",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_start, beta_end, num_train_timesteps + 1)
""",
    ),
    dict(
        exercise="linear_betas",
        name="backwards",
        says="runs backwards",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    return torch.linspace(beta_end, beta_start, num_train_timesteps)
""",
    ),
    dict(
        exercise="linear_betas",
        name="forgot_return",
        says="return statement",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    betas = torch.linspace(beta_start, beta_end, num_train_timesteps)
""",
    ),
    # cosine_betas
    dict(
        exercise="cosine_betas",
        name="begins_with_one",
        says="one step late: the first compares",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.arange(num_train_timesteps, dtype=torch.float64) / num_train_timesteps
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    before = torch.cat([torch.ones(1, dtype=f.dtype), f[:-1]])
    return (1 - f / before).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="f_at_the_steps",
        says="You return f itself",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.arange(num_train_timesteps, dtype=torch.float64) / num_train_timesteps
    return torch.cos((u + s) / (1 + s) * math.pi / 2).square().float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="no_square",
        says="square is missing",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="no_offset",
        says="offset s is missing",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.arange(num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
    f = torch.cos(u * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="upside_down",
        says="upside down",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[:-1] / f[1:]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="division_by_one_plus_s_forgotten",
        says=r"division by 1 \+ s is missing",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="no_limit",
        says="max_beta is missing",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="returns_alpha_bar",
        says="You return ᾱ, what is left",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (f / f[0])[1:]
""",
    ),
    dict(
        exercise="cosine_betas",
        name="noise_since_the_beginning",
        says="noise gathered since the beginning",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1)[1:]
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return torch.clamp(1 - f, max=max_beta)
""",
    ),
    dict(
        exercise="cosine_betas",
        name="subtracts_neighbours",
        says="subtract neighbouring",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (f[:-1] - f[1:]).clamp(max=max_beta)
""",
    ),
    dict(
        exercise="cosine_betas",
        name="one_beta_short",
        says="one beta too few",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)
""",
    ),
    dict(
        exercise="cosine_betas",
        name="one_step_late",
        says="one step late",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    def f(t):
        return math.cos((t / num_train_timesteps + s) / (1 + s) * math.pi / 2) ** 2
    betas = [0.0]
    for t in range(1, num_train_timesteps):
        betas.append(min(1 - f(t) / f(t - 1), max_beta))
    return torch.tensor(betas)
""",
    ),
    dict(
        exercise="cosine_betas",
        name="limit_hard_coded",  # only seen when max_beta is given
        says="max_beta is an argument",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return torch.clip(1 - f[1:] / f[:-1], 0, 0.999).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="clipped_from_below",  # only seen with many steps
        says="cut off from below",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi * 0.5) ** 2
    return torch.clip(1 - f[1:] / f[:-1], 0.0001, max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="float64",
        says="float32",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)
""",
    ),
    # alphas_cumprod
    dict(
        exercise="alphas_cumprod",
        name="product_of_betas",
        says="You multiply the betas",
        code="""
def alphas_cumprod(betas):
    return torch.cumprod(betas, dim=0)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="one_minus_product_of_betas",
        says="before multiplying",
        code="""
def alphas_cumprod(betas):
    return 1 - betas.cumprod(0)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="cumsum_of_alphas",
        says="cumsum",
        code="""
def alphas_cumprod(betas):
    alphas = 1 - betas
    return alphas.cumsum(dim=0)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="one_minus_cumsum",
        says="shares multiply",
        code="""
def alphas_cumprod(betas):
    return 1 - torch.cumsum(betas, 0)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="exponential",
        says="exponent",
        code="""
def alphas_cumprod(betas):
    return torch.exp(-betas.cumsum(0))
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="no_product",
        says="single steps",
        code="""
def alphas_cumprod(betas):
    return 1.0 - betas
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="total_product",
        says="single number",
        code="""
def alphas_cumprod(betas):
    return torch.prod(1 - betas)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="one_step_late",
        says="one step late",
        code="""
def alphas_cumprod(betas):
    result = [torch.tensor(1.0)]
    for beta in betas[:-1]:
        result.append(result[-1] * (1 - beta))
    return torch.stack(result)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="root_taken_early",
        says="square root of ᾱ",
        code="""
def alphas_cumprod(betas):
    return (1 - betas).cumprod(0).sqrt()
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="always_float32",  # only seen with a float64 schedule
        says="same dtype",
        code="""
def alphas_cumprod(betas):
    product, result = 1.0, []
    for beta in betas:
        product = product * (1 - beta.item())
        result.append(product)
    return torch.tensor(result)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="changes_betas",  # right values, but the caller's schedule is gone
        says="in place",
        code="""
def alphas_cumprod(betas):
    betas.neg_().add_(1)
    return torch.cumprod(betas, dim=0)
""",
    ),
    # add_noise
    dict(
        exercise="add_noise",
        name="no_roots",
        says="Both square roots",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    return a * x_0 + (1 - a) * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="no_root_on_noise",
        says="root on the noise is missing",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, x_0)
    return a.sqrt() * x_0 + (1 - a) * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="kept_within_the_picture",
        says="no clamp",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, x_0)
    return (a.sqrt() * x_0 + (1 - a).sqrt() * noise).clamp(-1, 1)
""",
    ),
    dict(
        exercise="add_noise",
        name="root_before_subtracting",
        says="first subtract, then take the root",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod.sqrt(), t, x_0)
    return a * x_0 + (1 - a) * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="places_changed",
        says="changed places",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, x_0)
    return (1 - a).sqrt() * x_0 + a.sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="one_step_for_all",
        says="each sample has its own t",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t[0]]
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="item",
        says="own t|one step|converted",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t.item()]
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="not_reshaped",
        says=r"\(B, 1, 1, 1\)",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t]
    return torch.sqrt(a) * x_0 + torch.sqrt(1 - a) * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="along_the_width",  # right shapes only when the image is as wide as the batch is large
        says="along the width",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    if len(t) == x_0.shape[-1]:
        a = alphas_cumprod[t]
    else:
        a = alphas_cumprod[t].view(-1, 1, 1, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="off_by_one",
        says="off by one",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t - 1, x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="own_noise",
        says="noise of your own",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    noise = torch.randn_like(x_0)
    a = gather(alphas_cumprod, t, x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="product_of_a_product",
        says="running product once more",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = torch.cumprod(alphas_cumprod, dim=0)[t][:, None, None, None]
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="root_around_both",
        says="multiplies the noise as well",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, x_0)
    return a.sqrt() * (x_0 + (1 - a).sqrt() * noise)
""",
    ),
    dict(
        exercise="add_noise",
        name="noise_on_top",
        says="full strength",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, x_0)
    return x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="float32_comes_out",  # only seen with images of another dtype
        says="dtype",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t].float().view(-1, 1, 1, 1)
    x_t = a.sqrt() * x_0.float() + (1 - a).sqrt() * noise.float()
    return x_t
""",
    ),
    dict(
        exercise="add_noise",
        name="changes_x_0",  # right values, but the caller's pictures are gone
        says="in place",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, x_0)
    x_0 *= a.sqrt()
    x_0 += (1 - a).sqrt() * noise
    return x_0
""",
    ),
    # snr
    dict(
        exercise="snr",
        name="upside_down",
        says="upside down",
        code="""
def snr(alphas_cumprod):
    return (1 - alphas_cumprod) / alphas_cumprod
""",
    ),
    dict(
        exercise="snr",
        name="logarithm",
        says="logarithm",
        code="""
def snr(alphas_cumprod):
    return torch.log(alphas_cumprod / (1 - alphas_cumprod))
""",
    ),
    dict(
        exercise="snr",
        name="decibels",
        says="decibels",
        code="""
def snr(alphas_cumprod):
    return 10 * torch.log10(alphas_cumprod / (1 - alphas_cumprod))
""",
    ),
    dict(
        exercise="snr",
        name="ratio_of_amplitudes",
        says="square root of the ratio",
        code="""
def snr(alphas_cumprod):
    return torch.sqrt(alphas_cumprod) / torch.sqrt(1 - alphas_cumprod)
""",
    ),
    dict(
        exercise="snr",
        name="squared_again",
        says="squared once too often",
        code="""
def snr(alphas_cumprod):
    return alphas_cumprod**2 / (1 - alphas_cumprod) ** 2
""",
    ),
    dict(
        exercise="snr",
        name="half_a_root",
        says="without a root",
        code="""
def snr(alphas_cumprod):
    return alphas_cumprod / (1 - alphas_cumprod).sqrt()
""",
    ),
    dict(
        exercise="snr",
        name="brackets",
        says="Brackets",
        code="""
def snr(alphas_cumprod):
    return alphas_cumprod / 1 - alphas_cumprod
""",
    ),
    dict(
        exercise="snr",
        name="treated_as_betas",
        says="as betas",
        code="""
def snr(alphas_cumprod):
    a = torch.cumprod(1 - alphas_cumprod, 0)
    return a / (1 - a)
""",
    ),
    dict(
        exercise="snr",
        name="float32",  # only seen with a float64 schedule
        says="dtype",
        code="""
def snr(alphas_cumprod):
    alphas_cumprod = alphas_cumprod.float()
    return alphas_cumprod / (1 - alphas_cumprod)
""",
    ),
    # rescale_zero_terminal_snr
    dict(
        exercise="rescale_zero_terminal_snr",
        name="brackets_forgotten",
        says="Brackets are missing",
        code="""
def rescale_zero_terminal_snr(betas):
    root = (1 - betas).cumprod(0).sqrt()
    first, last = root[0], root[-1]
    alpha_bar = (root - last * first / (first - last)) ** 2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="hides_the_function",
        says="Give your result another name",
        code="""
def rescale_zero_terminal_snr(betas):
    alphas_cumprod = alphas_cumprod(betas)
    root = alphas_cumprod.sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="subtracts_from_what_it_reads",
        says="in place while it is read",
        code="""
def rescale_zero_terminal_snr(betas):
    root = (1 - betas).cumprod(0).sqrt()
    first, last = root[0], root[-1]
    root -= last
    root *= first / (first - last)
    alpha_bar = root**2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="only_the_last",
        says="Only the last step",
        code="""
def rescale_zero_terminal_snr(betas):
    betas = betas.clone()
    betas[-1] = 1.0
    return betas
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="only_the_last_alpha_bar",
        says="Only the last",
        code="""
def rescale_zero_terminal_snr(betas):
    ab = torch.cumprod(1 - betas, 0)
    ab[-1] = 0
    return 1 - torch.cat([ab[:1], ab[1:] / ab[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="shift_without_scale",
        says="start has moved",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    ab = (r - r[-1]) ** 2
    return 1 - torch.cat([ab[:1], ab[1:] / ab[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="start_not_given_back",
        says="begins with 1",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    ab = ((r - r[-1]) / (r[0] - r[-1])) ** 2
    return 1 - torch.cat([ab[:1], ab[1:] / ab[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="without_the_root",
        says="its square root",
        code="""
def rescale_zero_terminal_snr(betas):
    ab = torch.cumprod(1 - betas, 0)
    ab = (ab - ab[-1]) * ab[0] / (ab[0] - ab[-1])
    return 1 - torch.cat([ab[:1], ab[1:] / ab[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="not_squared_back",
        says="square is missing",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    r = (r - r[-1]) * r[0] / (r[0] - r[-1])
    alphas = torch.cat([r[:1], r[1:] / r[:-1]])
    return 1 - alphas
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="returns_alpha_bar",
        says="You return ᾱ",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    return ((r - r[-1]) * r[0] / (r[0] - r[-1])) ** 2
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="returns_alphas",
        says="return the alphas",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    ab = ((r - r[-1]) * r[0] / (r[0] - r[-1])) ** 2
    return torch.cat([ab[:1], ab[1:] / ab[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="one_beta_short",
        says="one beta too few",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    ab = ((r - r[-1]) * r[0] / (r[0] - r[-1])) ** 2
    return 1 - ab[1:] / ab[:-1]
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="first_beta_zero",
        says="first beta is 0",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    ab = ((r - r[-1]) * r[0] / (r[0] - r[-1])) ** 2
    before = torch.cat([ab[:1], ab[:-1]])
    return 1 - ab / before
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="betas_scaled",
        says="betas are scaled",
        code="""
def rescale_zero_terminal_snr(betas):
    return betas / betas[-1]
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="a_floor_is_left",  # the last beta is 0.9999..., every other value is right
        says="not exactly 1",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    ab = (((r - r[-1]) * r[0] / (r[0] - r[-1])) ** 2).clamp(min=1e-13)
    return 1 - torch.cat([ab[:1], ab[1:] / ab[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="changes_betas",  # right values, but the caller's schedule is gone
        says="in place",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.cumprod(1 - betas, 0).sqrt()
    ab = ((r - r[-1]) * r[0] / (r[0] - r[-1])) ** 2
    betas[0] = 1 - ab[0]
    betas[1:] = 1 - ab[1:] / ab[:-1]
    return betas
""",
    ),
    dict(
        exercise="linear_betas",
        name="another_default",
        says="defaults of the signature",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.2):
    return torch.linspace(beta_start, beta_end, num_train_timesteps)
""",
    ),
    dict(
        exercise="cosine_betas",
        name="limit_from_below",
        says="works from below",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="only_the_last_is_limited",
        says="Only the last beta is limited",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    betas = 1 - f[1:] / f[:-1]
    betas[-1] = max_beta
    return betas.float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="brackets_lost_below_the_line",
        says="missing below the line",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / 1 + s * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="squares_the_angle",
        says="square the angle",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos(((u + s) / (1 + s) * math.pi / 2) ** 2)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="whole_steps",
        says="counts whole steps",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.arange(num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="always_a_thousand",
        says="divide by 1000",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.arange(num_train_timesteps + 1, dtype=torch.float64) / 1000
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="minimum_of_python",
        says="Python's min",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return min(1 - f[1:] / f[:-1], max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="cosine_of_one_number",
        says="torch.cos takes",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = math.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="compares_with_1_first",
        says="is not quite 1",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.arange(1, num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    before = torch.cat([torch.ones(1), f[:-1]])
    return (1 - f / before).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="a_1_before_too_few",
        says="A 1 stands before T values",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    before = torch.cat([torch.ones(1), f[:-1]])
    return (1 - f / before).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="keeps_the_first_f",
        says="kept from an earlier call",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    global _f
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    _f = globals().get("_f", f)
    return (1 - _f[1:] / _f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="cosine_betas",
        name="pi_rounded",
        says="float64 with math.pi",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * 3.1416 / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="always_float64",
        says="dtype of betas",
        code="""
def alphas_cumprod(betas):
    return torch.cumprod(1 - betas.double(), dim=0)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="calls_itself_once_a_step",
        says="calls itself",
        code="""
def alphas_cumprod(betas):
    if len(betas) == 1:
        return 1 - betas
    before = alphas_cumprod(betas[:-1])
    return torch.cat([before, before[-1:] * (1 - betas[-1:])])
""",
    ),
    dict(
        exercise="add_noise",
        name="squeezed",
        says="batch of one",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t].squeeze()[:, None, None, None]
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="halves_instead_of_rooting",
        says="then halves",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, x_0)
    return a ** 1/2 * x_0 + (1 - a) ** 1/2 * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="gather_like_something_else",
        says=r"like=x_0\)",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod, t, like=alphas_cumprod)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="calls_its_argument",
        says="is its argument",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = gather(alphas_cumprod(linear_betas()), t, x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="snr",
        name="changes_its_input",
        says="in place",
        code="""
def snr(alphas_cumprod):
    alphas_cumprod /= 1 - alphas_cumprod
    return alphas_cumprod
""",
    ),
    dict(
        exercise="snr",
        name="always_float64",
        says="dtype of alphas_cumprod",
        code="""
def snr(alphas_cumprod):
    a = alphas_cumprod.double()
    return a / (1 - a)
""",
    ),
    dict(
        exercise="snr",
        name="limited",
        says="no clamp",
        code="""
def snr(alphas_cumprod):
    return (alphas_cumprod / (1 - alphas_cumprod)).clamp(max=1000)
""",
    ),
    dict(
        exercise="snr",
        name="calls_its_argument",
        says="is its argument",
        code="""
def snr(alphas_cumprod):
    a = alphas_cumprod(linear_betas(1000))
    return a / (1 - a)
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="halves_instead_of_rooting",
        says="then halves",
        code="""
def rescale_zero_terminal_snr(betas):
    root = alphas_cumprod(betas) ** 1/2
    first, last = root[0], root[-1]
    bar = ((root - last) * first / (first - last)) ** 2
    return 1 - torch.cat([bar[:1], bar[1:] / bar[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="stretched_from_one",
        says="as if √ᾱ began with 1",
        code="""
def rescale_zero_terminal_snr(betas):
    root = alphas_cumprod(betas).sqrt()
    first, last = root[0], root[-1]
    bar = ((root - last) / (1 - last)) ** 2
    return 1 - torch.cat([bar[:1], bar[1:] / bar[:-1]])
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="brackets_lost_below_the_line",
        says="missing below the line",
        code="""
def rescale_zero_terminal_snr(betas):
    root = alphas_cumprod(betas).sqrt()
    first, last = root[0], root[-1]
    bar = ((root - last) * first / first - last) ** 2
    return 1 - torch.cat([bar[:1], bar[1:] / bar[:-1]])
""",
    ),
]

RIGHT = [
    # linear_betas
    dict(
        exercise="linear_betas",
        name="loop",
        code="""
def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    stride = (beta_end - beta_start) / (num_train_timesteps - 1)
    betas = []
    for t in range(num_train_timesteps):
        betas.append(beta_start + t * stride)
    return torch.tensor(betas)
""",
    ),
    dict(
        exercise="linear_betas",
        name="numpy",
        code="""
import numpy as np

def linear_betas(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02):
    return torch.tensor(np.linspace(beta_start, beta_end, num_train_timesteps), dtype=torch.float32)
""",
    ),
    dict(
        exercise="linear_betas",
        name="lerp_with_helper_and_extra_argument",
        code="""
def between(a, b, share):
    return a + (b - a) * share

def linear_betas(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, device="cpu"
) -> Tensor:
    share = torch.arange(num_train_timesteps, dtype=torch.float32, device=device)
    return between(beta_start, beta_end, share.div(num_train_timesteps - 1))
""",
    ),
    # cosine_betas
    dict(
        exercise="cosine_betas",
        name="loop_like_the_papers_code",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    def f(u):
        return math.cos((u + s) / (1 + s) * math.pi / 2) ** 2

    betas = []
    for i in range(num_train_timesteps):
        t1 = i / num_train_timesteps
        t2 = (i + 1) / num_train_timesteps
        betas.append(min(1 - f(t2) / f(t1), max_beta))
    return torch.tensor(betas)
""",
    ),
    dict(
        exercise="cosine_betas",
        name="float32_throughout",
        code="""
def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    x = torch.linspace(0, num_train_timesteps, num_train_timesteps + 1)
    alphas_cumprod = torch.cos(((x / num_train_timesteps) + s) / (1 + s) * torch.pi * 0.5) ** 2
    alphas_cumprod = alphas_cumprod / alphas_cumprod[0]
    betas = 1 - (alphas_cumprod[1:] / alphas_cumprod[:-1])
    return torch.clip(betas, 0, max_beta)
""",
    ),
    dict(
        exercise="cosine_betas",
        name="half_angle_and_minimum",
        code="""
def cosine_betas(num_train_timesteps: int = 1000, s: float = 0.008, max_beta: float = 0.999):
    angle = (torch.arange(num_train_timesteps + 1).double() / num_train_timesteps + s) / (1 + s)
    signal = (1 + torch.cos(torch.pi * angle)) / 2
    betas = (signal[:-1] - signal[1:]) / signal[:-1]
    return torch.minimum(betas, torch.tensor(max_beta, dtype=torch.float64)).to(torch.float32)
""",
    ),
    # alphas_cumprod
    dict(
        exercise="alphas_cumprod",
        name="loop",
        code="""
def alphas_cumprod(betas):
    left = torch.ones_like(betas[0])
    result = []
    for beta in betas:
        left = left * (1 - beta)
        result.append(left)
    return torch.stack(result)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="logarithms",
        code="""
def alphas_cumprod(betas):
    return torch.log1p(-betas.double()).cumsum(0).exp().to(betas.dtype)
""",
    ),
    dict(
        exercise="alphas_cumprod",
        name="in_place_on_its_own_copy",
        code="""
def alphas_cumprod(betas):
    out = 1 - betas
    for i in range(1, len(out)):
        out[i] *= out[i - 1]
    return out
""",
    ),
    # add_noise
    dict(
        exercise="add_noise",
        name="view",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t].to(x_0.dtype).view(-1, 1, 1, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="plain_view",  # bfloat16 images come out as float32: the mixture is right
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * noise
""",
    ),
    dict(
        exercise="add_noise",
        name="loop_over_samples",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    noisy = []
    for i in range(len(x_0)):
        a = alphas_cumprod[t[i]].item()
        noisy.append(math.sqrt(a) * x_0[i] + math.sqrt(1 - a) * noise[i])
    return torch.stack(noisy)
""",
    ),
    dict(
        exercise="add_noise",
        name="einsum_in_float64",
        code="""
def add_noise(x_0, noise, t, alphas_cumprod):
    a = alphas_cumprod.double()[t]
    signal = torch.einsum("b,bchw->bchw", a.sqrt(), x_0.double())
    rest = torch.einsum("b,bchw->bchw", (1 - a).sqrt(), noise.double())
    return (signal + rest).to(x_0.dtype)
""",
    ),
    dict(
        exercise="add_noise",
        name="helper_and_unsqueeze",
        code="""
def per_sample(values, like):
    while values.ndim < like.ndim:
        values = values.unsqueeze(-1)
    return values.type_as(like)

def add_noise(x_0, noise, t, alphas_cumprod, strength=1.0):
    a_t = alphas_cumprod.gather(0, t)
    x_t = per_sample(a_t**0.5, x_0) * x_0
    x_t += per_sample((1 - a_t) ** 0.5, x_0) * noise * strength
    return x_t
""",
    ),
    # snr
    dict(
        exercise="snr",
        name="odds",
        code="""
def snr(alphas_cumprod):
    noise = 1 - alphas_cumprod
    return 1 / noise - 1
""",
    ),
    dict(
        exercise="snr",
        name="amplitudes_squared",
        code="""
def snr(alphas_cumprod):
    alpha = alphas_cumprod.sqrt()
    sigma = (1 - alphas_cumprod) ** 0.5
    return (alpha / sigma) ** 2
""",
    ),
    dict(
        exercise="snr",
        name="exp_of_logit",
        code="""
def snr(alphas_cumprod: Tensor) -> Tensor:
    return torch.exp(torch.logit(alphas_cumprod))
""",
    ),
    dict(
        exercise="snr",
        name="wants_a_falling_share",
        code="""
def snr(alphas_cumprod):
    if (alphas_cumprod.diff() > 0).any():
        raise ValueError("the picture's share must fall")
    return alphas_cumprod / (1 - alphas_cumprod)
""",
    ),
    # rescale_zero_terminal_snr
    dict(
        exercise="rescale_zero_terminal_snr",
        name="like_the_papers_listing",
        code="""
def rescale_zero_terminal_snr(betas):
    alphas = 1 - betas
    alphas_bar = alphas.cumprod(0)
    alphas_bar_sqrt = alphas_bar.sqrt()
    alphas_bar_sqrt_0 = alphas_bar_sqrt[0].clone()
    alphas_bar_sqrt_T = alphas_bar_sqrt[-1].clone()
    alphas_bar_sqrt -= alphas_bar_sqrt_T
    alphas_bar_sqrt *= alphas_bar_sqrt_0 / (alphas_bar_sqrt_0 - alphas_bar_sqrt_T)
    alphas_bar = alphas_bar_sqrt**2
    alphas = alphas_bar[1:] / alphas_bar[:-1]
    alphas = torch.cat([alphas_bar[0:1], alphas])
    return 1 - alphas
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="float64_inside_loop",
        code="""
def rescale_zero_terminal_snr(betas):
    roots = (1 - betas.double()).cumprod(0).sqrt().tolist()
    first, last = roots[0], roots[-1]
    new, before = [], 1.0
    for root in roots:
        alpha_bar = ((root - last) * first / (first - last)) ** 2
        new.append(1 - alpha_bar / before)
        before = alpha_bar
    return torch.tensor(new, dtype=betas.dtype)
""",
    ),
    dict(
        exercise="rescale_zero_terminal_snr",
        name="one_in_front",
        code="""
def rescale_zero_terminal_snr(betas):
    r = torch.exp(0.5 * torch.log(1 - betas).cumsum(0))
    r = (r - r[-1]) / (r[0] - r[-1]) * r[0]
    bar = torch.cat([torch.ones(1, dtype=r.dtype), r.square()])
    return 1 - bar[1:] / bar[:-1]
""",
    ),
]
