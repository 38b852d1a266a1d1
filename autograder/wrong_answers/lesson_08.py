"""Lesson 8: mistakes that people make in autoencoders and with latents, and right answers."""

WRONG = [
    dict(
        exercise="kl_divergence",
        name="logvar_for_the_variance",
        says="Is logvar treated as the variance",
        code="""
def kl_divergence(mean, logvar):
    return 0.5 * (mean**2 + logvar - 1 - logvar.log()).flatten(1).sum(1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="upsample_where_the_encoder_has_none",
        says="the other way round",
        code="""
class Decoder(nn.Module):
    def __init__(self, out_channels: int = 3, latent_channels: int = 4, block_channels=(128, 256, 512, 512), layers_per_block: int = 2, norm_groups: int = 32):
        super().__init__()
        widths = list(reversed(block_channels))
        channels = widths[0]
        self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.mid = Middle(channels, norm_groups)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            resize = Upsample(width) if level > 0 else None
            self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
            channels = width
        self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in self.up:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="forgets_what_came_out",
        says="channels = width after each",
        code="""
class Decoder(nn.Module):
    def __init__(self, out_channels: int = 3, latent_channels: int = 4, block_channels=(128, 256, 512, 512), layers_per_block: int = 2, norm_groups: int = 32):
        super().__init__()
        widths = list(reversed(block_channels))
        channels = widths[0]
        self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.mid = Middle(channels, norm_groups)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            resize = Upsample(width) if level < len(widths) - 1 else None
            self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in self.up:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="conv_in_of_one_pixel",
        says="conv_in is 1×1",
        code="""
class Decoder(nn.Module):
    def __init__(self, out_channels: int = 3, latent_channels: int = 4, block_channels=(128, 256, 512, 512), layers_per_block: int = 2, norm_groups: int = 32):
        super().__init__()
        widths = list(reversed(block_channels))
        channels = widths[0]
        self.conv_in = nn.Conv2d(latent_channels, channels, 1)
        self.mid = Middle(channels, norm_groups)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            resize = Upsample(width) if level < len(widths) - 1 else None
            self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
            channels = width
        self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in self.up:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="eps_not_told",
        says="norm_out has eps = 1e-5",
        code="""
class Decoder(nn.Module):
    def __init__(self, out_channels: int = 3, latent_channels: int = 4, block_channels=(128, 256, 512, 512), layers_per_block: int = 2, norm_groups: int = 32):
        super().__init__()
        widths = list(reversed(block_channels))
        channels = widths[0]
        self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.mid = Middle(channels, norm_groups)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            resize = Upsample(width) if level < len(widths) - 1 else None
            self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
            channels = width
        self.norm_out = nn.GroupNorm(norm_groups, channels)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in self.up:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="neither_norm_nor_activation",
        says="are both missing",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    return self.conv_out(self.mid(h))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="parted_already",
        says="come back as two",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    return self.conv_out(F.silu(self.norm_out(self.mid(h)))).chunk(2, dim=1)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="draws_its_own_noise",
        says="draw none of its own",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))
    def encode(self, x_0, noise=None):
        p = self.vae.encode(x_0)
        z = p.mode() if noise is None else p.sample(torch.randn_like(p.mean))
        return self.scaling_factor * z
    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="reparameterize",
        name="noise_times_the_sum",
        says="mean is multiplied by the noise too",
        code="""
def reparameterize(mean, logvar, noise):
    return (mean + (logvar/2).exp()) * noise
""",
    ),
    dict(
        exercise="vae_loss",
        name="adds_up_and_divides_nothing",
        says="nothing divided",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    return (x_0-reconstruction).square().sum() + kl_weight*kl_divergence(mean, logvar).sum()
""",
    ),
    dict(
        exercise="kl_divergence",
        name="without_gradients",
        says="no gradient at all",
        code="""
@torch.no_grad()
def kl_divergence(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
""",
    ),
    dict(
        exercise="vae_loss",
        name="divergence_as_a_plain_number",
        says="gradient reaches mean",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    squares = (x_0 - reconstruction).square().flatten(1).sum(1).mean()
    kl = kl_divergence(mean, logvar).mean().item()
    return (squares + kl_weight * kl) / x_0[0].numel()
""",
    ),
    # --- PaddedDownsample ---
    dict(
        exercise="PaddedDownsample",
        name="as_in_lesson_2",
        says="all sides, as in lesson 2",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="left_and_above",
        says="left and above",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (1, 0, 1, 0)))
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="only_right",
        says="no row below",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1)))
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="both_paddings",
        says="border on all sides",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="no_border",
        says="no border",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="repeats_the_edge",
        says="repeats the edge",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1), mode="replicate"))
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="no_bias",
        says="conv.bias",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, bias=False)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))
""",
    ),
    # --- Encoder.forward ---
    dict(
        exercise="Encoder.forward",
        name="no_middle",
        says="middle is left out",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="middle_first",
        says="middle comes first",
        code="""
def forward(self, x_0):
    h = self.mid(self.conv_in(x_0))
    for level in self.down:
        h = level(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="no_silu",
        says="activation before conv_out",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    return self.conv_out(self.norm_out(self.mid(h)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="no_norm",
        says="norm_out is not used",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    return self.conv_out(F.silu(self.mid(h)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="only_means",
        says="half of the channels",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    mean, logvar = self.conv_out(F.silu(self.norm_out(self.mid(h)))).chunk(2, dim=1)
    return mean
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="silu_between_levels",
        says="between the levels",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = F.silu(level(h))
    return self.conv_out(F.silu(self.norm_out(self.mid(h))))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="in_place_on_the_input",
        says="in place",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    x_0.mul_(0.5)
    for level in self.down:
        h = level(h)
    return self.conv_out(F.silu(self.norm_out(self.mid(h))))
""",
    ),
    # --- Decoder.__init__ ---
    dict(
        exercise="Decoder.__init__",
        name="not_turned_round",
        says="not turned round",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    widths = list(block_channels)
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    channels = widths[0]
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="levels_not_turned_round",
        says="levels are not turned round",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    channels = block_channels[-1]
    self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
    self.mid = Middle(channels, norm_groups)
    self.up = nn.ModuleList()
    for level, width in enumerate(block_channels):
        resize = Upsample(width) if level < len(block_channels) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="as_many_blocks",
        says=r"one more, \+ 1",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    widths = list(block_channels)[::-1]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    channels = widths[0]
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="upsample_everywhere",
        says="last level has an Upsample",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    widths = list(block_channels)[::-1]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    channels = widths[0]
    for width in widths:
        self.up.append(
            Level(channels, width, layers_per_block + 1, Upsample(width), norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="usual_eps",
        says="eps",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    widths = list(block_channels)[::-1]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    channels = widths[0]
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="no_super",
        says="super",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    widths = list(block_channels)[::-1]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="reads_moments",
        says="conv_in.weight has shape",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    widths = list(block_channels)[::-1]
    self.conv_in = nn.Conv2d(2 * latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    channels = widths[0]
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="levels_in_a_plain_list",
        says="plain list",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    widths = list(block_channels)[::-1]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = []
    channels = widths[0]
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="norm_groups_forgotten",
        says="norm_groups",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    widths = list(block_channels)[::-1]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0])
    self.up = nn.ModuleList()
    channels = widths[0]
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize))
        channels = width
    self.norm_out = nn.GroupNorm(32, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    # --- reparameterize ---
    dict(
        exercise="reparameterize",
        name="variance_for_deviation",
        says="its square root",
        code="""
def reparameterize(mean, logvar, noise):
    return mean + logvar.exp() * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="logvar_for_deviation",
        says="by logvar itself",
        code="""
def reparameterize(mean, logvar, noise):
    return mean + logvar * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="own_noise",
        says="not right|draw none",
        code="""
def reparameterize(mean, logvar, noise):
    return mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
""",
    ),
    dict(
        exercise="reparameterize",
        name="root_of_logvar",
        says="taken of logvar",
        code="""
def reparameterize(mean, logvar, noise):
    return mean + logvar.abs().sqrt() * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="detached",
        says="gradient",
        code="""
def reparameterize(mean, logvar, noise):
    return (mean + torch.exp(0.5 * logvar) * noise).detach()
""",
    ),
    dict(
        exercise="reparameterize",
        name="logvar_cut_off",
        says="no gradient reaches logvar",
        code="""
def reparameterize(mean, logvar, noise):
    with torch.no_grad():
        std = torch.exp(0.5 * logvar)
    return mean + std * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="in_place",
        says="in place",
        code="""
def reparameterize(mean, logvar, noise):
    noise *= torch.exp(0.5 * logvar)
    return mean + noise
""",
    ),
    # --- kl_divergence ---
    dict(
        exercise="kl_divergence",
        name="mean_over_values",
        says="it is their sum",
        code="""
def kl_divergence(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).mean(1)
""",
    ),
    dict(
        exercise="kl_divergence",
        name="one_number",
        says="each has a number of its own",
        code="""
def kl_divergence(mean, logvar):
    return 0.5 * torch.sum(mean**2 + logvar.exp() - 1 - logvar)
""",
    ),
    dict(
        exercise="kl_divergence",
        name="no_half",
        says="half in front",
        code="""
def kl_divergence(mean, logvar):
    return (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)
""",
    ),
    dict(
        exercise="kl_divergence",
        name="papers_sign",
        says="sign is wrong",
        code="""
def kl_divergence(mean, logvar):
    return 0.5 * (1 + logvar - mean**2 - logvar.exp()).flatten(1).sum(1)
""",
    ),
    dict(
        exercise="kl_divergence",
        name="deviation_for_variance",
        says="standard deviation where the variance",
        code="""
def kl_divergence(mean, logvar):
    std = torch.exp(0.5 * logvar)
    return 0.5 * (mean**2 + std - 1 - logvar).flatten(1).sum(1)
""",
    ),
    dict(
        exercise="kl_divergence",
        name="deviation_called_variance",
        says="Is your variance exp",
        code="""
def kl_divergence(mean, logvar):
    variance = torch.exp(logvar / 2)
    return 0.5 * (mean**2 + variance - 1 - torch.log(variance)).flatten(1).sum(1)
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="middle_before_the_last_level",
        says="and only then mid",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down[:-1]:
        h = level(h)
    h = self.down[-1](self.mid(h))
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="activation_before_the_middle",
        says="activation before the middle",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    h = self.mid(F.silu(h))
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="vae_loss",
        name="the_cells_own_size",
        says="divided by 192",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    wrong = (x_0 - reconstruction).square().flatten(1).sum(1)
    return (wrong + kl_weight * kl_divergence(mean, logvar)).mean() / 192
""",
    ),
    dict(
        exercise="kl_divergence",
        name="four_axes_only",
        says="flatten|dimensions",
        code="""
def kl_divergence(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3))
""",
    ),
    dict(
        exercise="kl_divergence",
        name="log_of_exp",
        says="narrow clouds",
        code="""
def kl_divergence(mean, logvar):
    variance = logvar.exp() + 1e-6
    return 0.5 * (mean**2 + variance - 1 - variance.log()).flatten(1).sum(1)
""",
    ),
    # --- vae_loss ---
    dict(
        exercise="vae_loss",
        name="kl_not_divided",
        says="KL must be, too",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    wrong = F.mse_loss(reconstruction, x_0)
    return wrong + kl_weight * kl_divergence(mean, logvar).mean()
""",
    ),
    dict(
        exercise="vae_loss",
        name="kl_per_latent_value",
        says="depends on the sizes",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    kl = kl_divergence(mean, logvar).mean() / mean[0].numel()
    return F.mse_loss(reconstruction, x_0) + kl_weight * kl
""",
    ),
    dict(
        exercise="vae_loss",
        name="nothing_divided",
        says="Nothing is divided",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    return x_0[0].numel() * F.mse_loss(reconstruction, x_0) + kl_weight * kl_divergence(mean, logvar).mean()
""",
    ),
    dict(
        exercise="vae_loss",
        name="kl_taken_away",
        says="taken away",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    return F.mse_loss(reconstruction, x_0) - kl_weight * kl_divergence(mean, logvar).mean() / x_0[0].numel()
""",
    ),
    dict(
        exercise="vae_loss",
        name="kl_of_all_pictures",
        says="KL of all pictures is added up",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    return F.mse_loss(reconstruction, x_0) + kl_weight * kl_divergence(mean, logvar).sum() / x_0[0].numel()
""",
    ),
    dict(
        exercise="vae_loss",
        name="absolute_error",
        says="absolute",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    kl = kl_divergence(mean, logvar).mean() / x_0[0].numel()
    return F.l1_loss(reconstruction, x_0) + kl_weight * kl
""",
    ),
    # --- latent_scaling_factor ---
    dict(
        exercise="latent_scaling_factor",
        name="upside_down",
        says="1 divided by it",
        code="""
def latent_scaling_factor(latents):
    return latents.std()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="variance",
        says="1 / variance",
        code="""
def latent_scaling_factor(latents):
    return 1 / latents.var()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="each_channel",
        says="shape",
        code="""
def latent_scaling_factor(latents):
    return 1 / latents.std(dim=tuple(i for i in range(latents.ndim) if i != 1))
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="channels_averaged",
        says="channels are measured one by one",
        code="""
def latent_scaling_factor(latents):
    return (1 / latents.transpose(0, 1).flatten(1).std(dim=1)).mean()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="from_zero",
        says="measured from 0",
        code="""
def latent_scaling_factor(latents):
    return 1 / latents.pow(2).mean().sqrt()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="stable_diffusions",
        says="measure these latents",
        code="""
def latent_scaling_factor(latents):
    return torch.tensor(0.18215, dtype=latents.dtype)
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="in_place",
        says="in place",
        code="""
def latent_scaling_factor(latents):
    factor = 1 / latents.std()
    latents -= latents.mean()
    return factor
""",
    ),
    # --- LatentSpace ---
    dict(
        exercise="LatentSpace",
        name="divided_on_the_way_in",
        says="divided by the factor on the way in",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        return (posterior.mode() if noise is None else posterior.sample(noise)) / self.scaling_factor

    def decode(self, z_0):
        return self.vae.decode(z_0 * self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="forgotten_on_the_way_out",
        says="forgotten on the way out",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="forgotten_on_the_way_in",
        says="forgotten on the way in",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        return posterior.mode() if noise is None else posterior.sample(noise)

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="noise_after_scaling",
        says="noise is added after scaling|draw first",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        z = self.scaling_factor * self.vae.encode(x_0).mode()
        return z if noise is None else z + noise

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="plain_attribute",
        says="not saved with the module",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.scaling_factor = scaling_factor

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="frozen_in_training_mode",
        says="not in eval mode",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="under_another_name",
        says="not kept as self.vae",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.autoencoder = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        posterior = self.autoencoder.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.autoencoder.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="not_frozen",
        says="not frozen",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="always_draws",
        says="another answer each time",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        if noise is None:
            noise = torch.randn_like(posterior.mean)
        return self.scaling_factor * posterior.sample(noise)

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="kept_under_another_name",
        says="tensor called conv.weight",
        also_breaks=["PaddedDownsample"],  # itself alone: all others are graded, and must pass
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2)
    def forward(self, x):
        return self.down(F.pad(x, (0, 1, 0, 1)))
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="no_grad",
        says="does not require grad",
        also_breaks=["PaddedDownsample"],  # itself alone: all others are graded, and must pass
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)
    @torch.no_grad()
    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="no_grad",
        says="no gradient at all",
        code="""
@torch.no_grad()
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        h = level(h)
    h = self.mid(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="three_levels",
        says="Go through conv_in",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for i in range(3):
        h = self.down[i](h)
    h = self.mid(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="sorted_widths",
        says="channels in reverse",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512), layers_per_block=2, norm_groups=32):
    super().__init__()

    widths = sorted(block_channels, reverse=True)
    channels = widths[0]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="reverse_in_place",
        says="must not be reversed in place",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512), layers_per_block=2, norm_groups=32):
    super().__init__()

    widths = block_channels
    if isinstance(widths, list):
        widths.reverse()
    else:
        widths = widths[::-1]
    channels = widths[0]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="three_out",
        says="are arguments",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512), layers_per_block=2, norm_groups=32):
    super().__init__()

    widths = list(reversed(block_channels))
    channels = widths[0]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="padding_forgotten_in",
        says="padding=1 missing",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512), layers_per_block=2, norm_groups=32):
    super().__init__()

    widths = list(reversed(block_channels))
    channels = widths[0]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    for level, width in enumerate(widths):
        resize = Upsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="downsample_left_in",
        says="levels end with Upsample",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512), layers_per_block=2, norm_groups=32):
    super().__init__()

    widths = list(reversed(block_channels))
    channels = widths[0]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    for level, width in enumerate(widths):
        resize = PaddedDownsample(width) if level < len(widths) - 1 else None
        self.up.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)
    self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
""",
    ),
    dict(
        exercise="reparameterize",
        name="clamped_logvar_ten",
        says="the draw is not right",
        code="""
def reparameterize(mean, logvar, noise):
    pass
    return mean + torch.exp(0.5 * logvar.clamp(-10, 10)) * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="no_return",
        says="return statement missing",
        code="""
def reparameterize(mean, logvar, noise):
    z = mean + torch.exp(0.5 * logvar) * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="plain_sqrt_logvar",
        says="may be negative: NaN",
        code="""
def reparameterize(mean, logvar, noise):
    return mean + torch.sqrt(logvar) * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="float64_result",
        says="mean's dtype",
        code="""
def reparameterize(mean, logvar, noise):
    pass
    return (mean + torch.exp(0.5 * logvar) * noise).double()
""",
    ),
    dict(
        exercise="kl_divergence",
        name="squeezed",
        says="is there a squeeze",
        code="""
def kl_divergence(mean, logvar):
    pass
    terms = mean**2 + logvar.exp() - 1 - logvar
    return (0.5 * terms.flatten(1).sum(dim=1)).squeeze()
""",
    ),
    dict(
        exercise="kl_divergence",
        name="logvar_clamped",
        says="neither clamped",
        code="""
def kl_divergence(mean, logvar):
    logvar = logvar.clamp(-10, 10)
    terms = mean**2 + logvar.exp() - 1 - logvar
    return 0.5 * terms.flatten(1).sum(dim=1)
""",
    ),
    dict(
        exercise="kl_divergence",
        name="raises",
        says="Dimension out of range",
        also_breaks=["kl_divergence"],  # itself alone: all others are graded, and must pass
        code="""
def kl_divergence(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 7))
""",
    ),
    dict(
        exercise="kl_divergence",
        name="each",
        says="sum over the latent values is missing",
        also_breaks=["kl_divergence"],  # itself alone: all others are graded, and must pass
        code="""
def kl_divergence(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
""",
    ),
    dict(
        exercise="vae_loss",
        name="item",
        says="plain number, no tensor",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    wrong = (x_0 - reconstruction).square().flatten(1).sum(dim=1)
    kl = kl_divergence(mean, logvar)
    return ((wrong + kl_weight * kl).mean() / x_0[0].numel()).item()
""",
    ),
    dict(
        exercise="vae_loss",
        name="or_default",
        says="taken for a weight that was not given",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    kl_weight = kl_weight or 1e-6
    wrong = (x_0 - reconstruction).square().flatten(1).sum(dim=1)
    kl = kl_divergence(mean, logvar)
    return (wrong + kl_weight * kl).mean() / x_0[0].numel()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="within_channels",
        says="measured from its own mean",
        code="""
def latent_scaling_factor(latents):
    centred = latents - latents.mean(dim=(0, *range(2, latents.ndim)), keepdim=True)
    return 1 / centred.square().mean().sqrt()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="within_channels_pooled_variance",
        says="variances are averaged",
        code="""
def latent_scaling_factor(latents):
    dims = (0, *range(2, latents.ndim))
    return 1 / latents.var(dim=dims).mean().sqrt()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="channels",
        says="Each channel has a factor of its own",
        code="""
def latent_scaling_factor(latents):
    return 1 / latents.std(dim=(0, 2, 3))
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="pictures_mean",
        says="measured one by one",
        code="""
def latent_scaling_factor(latents):
    return (1 / latents.flatten(1).std(dim=1)).mean()
""",
    ),
    dict(
        exercise="LatentSpace",
        name="divides_the_picture",
        says="The picture is divided by the factor",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        z = 1.0 * z_0
        return self.vae.decode(z) / self.scaling_factor
""",
    ),
    dict(
        exercise="LatentSpace",
        name="learnt_parameter",
        says="would be learnt",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.scaling_factor = nn.Parameter(torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="not_persistent",
        says="persistent=False",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32), persistent=False)

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="noise_remembered",
        says="noise of an earlier call",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        if noise is not None:
            self.noise = noise
        noise = getattr(self, 'noise', None)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="latents_cached",
        says="ask it anew in each call",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        if not hasattr(self, 'posterior'):
            self.posterior = self.vae.encode(x_0)
        z = self.posterior.mode() if noise is None else self.posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="truth_of_noise",
        says="noise is None",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.sample(noise) if noise else posterior.mode()
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="encode_gives_the_posterior",
        says="not the posterior",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        return self.vae.encode(x_0)

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="encode_no_return",
        says="return statement missing",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        z = self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="sample_without_argument",
        says="needs the noise",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample()
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="mode_without_brackets",
        says="Brackets are missing",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="clone_of_a_float",
        says="may be a float",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.register_buffer("scaling_factor", scaling_factor.clone())

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
]

RIGHT = [
    # --- PaddedDownsample ---
    dict(
        exercise="PaddedDownsample",
        name="zero_pad_layer",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=0)

    def forward(self, x):
        return self.conv(self.pad(x))
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="by_hand",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels, kernel_size=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, stride=2)

    def forward(self, x):
        batch, channels, height, width = x.shape
        bigger = torch.zeros(batch, channels, height + 1, width + 1, dtype=x.dtype, device=x.device)
        bigger[:, :, :height, :width] = x
        return self.conv(bigger)
""",
    ),
    dict(
        exercise="PaddedDownsample",
        name="functional",
        code="""
class PaddedDownsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 2)

    def forward(self, x):
        x = F.pad(x, (0, 0, 0, 1))
        x = F.pad(x, (0, 1, 0, 0))
        return F.conv2d(x, self.conv.weight, self.conv.bias, stride=2)
""",
    ),
    # --- Encoder.forward ---
    dict(
        exercise="Encoder.forward",
        name="one_expression",
        code="""
def forward(self, x_0):
    h = nn.Sequential(self.conv_in, *self.down, self.mid, self.norm_out)(x_0)
    return self.conv_out(h * torch.sigmoid(h))
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="by_index",
        code="""
def forward(self, x_0):
    x = self.conv_in(x_0)
    for i in range(len(self.down)):
        x = self.down[i].forward(x)
    x = self.mid.forward(x)
    x = self.norm_out(x)
    x = nn.functional.silu(x)
    x = self.conv_out(x)
    return x
""",
    ),
    dict(
        exercise="Encoder.forward",
        name="blocks_one_by_one",
        code="""
def forward(self, x_0):
    h = self.conv_in(x_0)
    for level in self.down:
        for block in level.blocks:
            h = block(h)
        if level.resize is not None:
            h = level.resize(h)
    return self.conv_out(F.silu(self.norm_out(self.mid(h))))
""",
    ),
    # --- Decoder.__init__ ---
    dict(
        exercise="Decoder.__init__",
        name="list_first",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    wide, fine = block_channels[-1], block_channels[0]
    self.conv_in = nn.Conv2d(latent_channels, wide, kernel_size=3, stride=1, padding=1)
    self.mid = Middle(wide, norm_groups=norm_groups)
    outs = list(block_channels)[::-1]
    ins = [wide] + outs[:-1]
    resizes = [Upsample(width) for width in outs[:-1]] + [None]
    self.up = nn.ModuleList(
        [Level(a, b, layers_per_block + 1, r, norm_groups) for a, b, r in zip(ins, outs, resizes)]
    )
    self.norm_out = nn.GroupNorm(num_groups=norm_groups, num_channels=fine, eps=1e-6)
    self.conv_out = nn.Conv2d(fine, out_channels, 3, 1, 1)
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="other_order",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32):
    super().__init__()
    self.norm_out = nn.GroupNorm(norm_groups, block_channels[0], eps=EPS)
    self.conv_out = nn.Conv2d(block_channels[0], out_channels, 3, padding=1)
    levels = []
    channels = block_channels[-1]
    for number in reversed(range(len(block_channels))):
        width = block_channels[number]
        resize = Upsample(width) if number > 0 else None
        levels.append(Level(channels, width, layers_per_block + 1, resize, norm_groups))
        channels = width
    self.up = nn.ModuleList(levels)
    self.mid = Middle(block_channels[-1], norm_groups)
    self.conv_in = nn.Conv2d(latent_channels, block_channels[-1], 3, padding="same")
""",
    ),
    dict(
        exercise="Decoder.__init__",
        name="with_more",
        code="""
def __init__(self, out_channels=3, latent_channels=4, block_channels=(128, 256, 512, 512),
             layers_per_block=2, norm_groups=32, eps=EPS):
    super().__init__()
    self.block_channels = tuple(block_channels)
    widths = self.block_channels[::-1]
    self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
    self.mid = Middle(widths[0], norm_groups)
    self.up = nn.ModuleList()
    for before, width in zip((widths[0], *widths), widths):
        self.up.append(Level(before, width, layers_per_block + 1, Upsample(width), norm_groups))
    self.up[-1].resize = None
    self.norm_out = nn.GroupNorm(norm_groups, widths[-1], eps)
    self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)
""",
    ),
    # --- reparameterize ---
    dict(
        exercise="reparameterize",
        name="square_root",
        code="""
def reparameterize(mean, logvar, noise):
    return mean + logvar.exp().sqrt() * noise
""",
    ),
    dict(
        exercise="reparameterize",
        name="addcmul",
        code="""
import math

def reparameterize(mean, logvar, noise):
    std = math.e ** (logvar / 2)
    return torch.addcmul(mean, std, noise)
""",
    ),
    dict(
        exercise="reparameterize",
        name="torch_distributions",
        code="""
def reparameterize(mean, logvar, noise):
    cloud = torch.distributions.Normal(mean, (logvar / 2).exp())
    return cloud.loc + cloud.scale * noise
""",
    ),
    # --- kl_divergence ---
    dict(
        exercise="kl_divergence",
        name="torch_distributions",
        code="""
def kl_divergence(mean, logvar):
    ours = torch.distributions.Normal(mean, torch.exp(logvar / 2))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    each = torch.distributions.kl_divergence(ours, standard)
    return each.reshape(len(mean), -1).sum(-1)
""",
    ),
    dict(
        exercise="kl_divergence",
        name="papers_formula",
        code="""
def kl_divergence(mean, logvar):
    inside = 1 + logvar - mean.pow(2) - logvar.exp()
    return -inside.sum(dim=list(range(1, mean.ndim))) / 2
""",
    ),
    dict(
        exercise="kl_divergence",
        name="loop_in_double",
        code="""
def kl_divergence(mean, logvar):
    found = []
    for m, v in zip(mean.double(), logvar.double()):
        found.append((m * m + torch.expm1(v) - v).sum() / 2)
    return torch.stack(found).to(mean.dtype)
""",
    ),
    # --- vae_loss ---
    dict(
        exercise="vae_loss",
        name="means",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    nats = kl_divergence(mean, logvar).mean()
    return F.mse_loss(reconstruction, x_0) + kl_weight * nats / x_0[0].numel()
""",
    ),
    dict(
        exercise="vae_loss",
        name="spelled_out",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    batch, channels, height, width = x_0.shape
    wrong = ((x_0 - reconstruction) ** 2).sum(dim=(1, 2, 3))
    total = (wrong + kl_weight * kl_divergence(mean, logvar)).sum()
    return total / (batch * channels * height * width)
""",
    ),
    dict(
        exercise="vae_loss",
        name="loop",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6, check=True):
    losses = []
    for i in range(len(x_0)):
        kl = kl_divergence(mean[i : i + 1], logvar[i : i + 1])[0]
        losses.append((x_0[i] - reconstruction[i]).pow(2).sum() + kl_weight * kl)
    return sum(losses) / len(losses) / x_0[0].numel()
""",
    ),
    # --- latent_scaling_factor ---
    dict(
        exercise="latent_scaling_factor",
        name="biased",
        code="""
def latent_scaling_factor(latents):
    return latents.flatten().std(correction=0).reciprocal()
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="by_hand",
        code="""
def latent_scaling_factor(latents):
    centred = latents - latents.mean()
    return 1 / (centred**2).mean() ** 0.5
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="python_number",
        code="""
def latent_scaling_factor(latents):
    return 1.0 / latents.std().item()
""",
    ),
    # --- LatentSpace ---
    dict(
        exercise="LatentSpace",
        name="frozen_by_hand",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae
        self.vae.eval()
        for parameter in self.vae.parameters():
            parameter.requires_grad = False
        factor = torch.tensor(float(scaling_factor))
        self.register_buffer("scaling_factor", factor)

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        if noise is None:
            return posterior.mean * self.scaling_factor
        return posterior.sample(noise) * self.scaling_factor

    def decode(self, z_0):
        return self.vae.decode(z_0.div(self.scaling_factor))
""",
    ),
    dict(
        exercise="LatentSpace",
        name="zero_noise",
        code="""
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = vae.requires_grad_(False).eval()
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor).clone().float())

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        noise = torch.zeros_like(posterior.mean) if noise is None else noise
        z = posterior.mean + posterior.std * noise
        return z.mul(self.scaling_factor)

    def decode(self, z_0):
        return self.vae.decode((1 / self.scaling_factor) * z_0)
""",
    ),
    dict(
        exercise="LatentSpace",
        name="a_parameter_that_stands_still",
        code='''
class LatentSpace(nn.Module):
    """Other helpers, and a check."""

    def __init__(self, vae, scaling_factor, name="room"):
        super().__init__()
        if not scaling_factor > 0:
            raise ValueError("scaling_factor must be above 0")
        self.name = name
        self.vae = vae.eval().requires_grad_(False)
        self.scaling_factor = nn.Parameter(torch.as_tensor(scaling_factor), requires_grad=False)

    def _latents(self, x_0, noise):
        posterior = self.vae.encode(x_0)
        return posterior.mode() if noise is None else posterior.sample(noise)

    def encode(self, x_0, noise=None):
        with torch.no_grad():
            return self._latents(x_0, noise) * self.scaling_factor

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
''',
    ),
    dict(
        exercise="latent_scaling_factor",
        name="four_dims_named",
        code="""
def latent_scaling_factor(latents):
    return 1 / latents.std(dim=(0, 1, 2, 3))
""",
    ),
    dict(
        exercise="latent_scaling_factor",
        name="shape_unpacked",
        code="""
def latent_scaling_factor(latents):
    b, c, h, w = latents.shape
    n = b * c * h * w
    centred = latents - latents.sum() / n
    return (n / (centred * centred).sum()) ** 0.5
""",
    ),
    dict(
        exercise="LatentSpace",
        name="deep_copy",
        code="""
import copy
class LatentSpace(nn.Module):
    def __init__(self, vae, scaling_factor):
        super().__init__()
        self.vae = copy.deepcopy(vae).eval().requires_grad_(False)
        self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))

    def encode(self, x_0, noise=None):
        posterior = self.vae.encode(x_0)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.scaling_factor * z

    def decode(self, z_0):
        return self.vae.decode(z_0 / self.scaling_factor)
""",
    ),
    dict(
        exercise="reparameterize",
        name="double_and_lerp",
        code="""
def reparameterize(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    if not mean.shape == logvar.shape == noise.shape:
        raise ValueError("three shapes")
    std = logvar.double().div(2).exp()
    return (mean.double() + std * noise.double()).to(mean.dtype)
""",
    ),
    dict(
        exercise="vae_loss",
        name="own_kl_inside",
        code="""
def vae_loss(x_0, reconstruction, mean, logvar, kl_weight=1e-6):
    kl = 0.5 * torch.sum(mean**2 + logvar.exp() - 1 - logvar)
    wrong = torch.sum((reconstruction - x_0) ** 2)
    return (wrong + kl_weight * kl) / x_0.numel()
""",
    ),
]
