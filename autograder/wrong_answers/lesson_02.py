"""Lesson 2: mistakes that people make, and right answers in other styles.

Each wrong answer loses the points of its exercise, and the message matches `says`. Each right
answer scores 100. `code` takes the place of the reference; methods replace those of the class.
"""

UNET = """
def forward(self, x_t, t, cond=None):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    emb = emb if cond is None else emb + cond
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
"""
ATTENTION = """
def forward(self, x):
    height, width = x.shape[2:]
    pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
    q, k, v = (
        rearrange(to(pixels), "b n (heads d) -> b heads n d", heads=self.num_heads)
        for to in (self.to_q, self.to_k, self.to_v)
    )
    looked = rearrange(F.scaled_dot_product_attention(q, k, v), "b heads n d -> b n (heads d)")
    return x + rearrange(self.proj(looked), "b (h w) c -> b c h w", h=height, w=width)
"""
RESBLOCK = """
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
"""
EMBEDDING = """
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    speeds = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    angles = t.float()[:, None] * speeds
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
"""


def _changed(usual, exercise, name, says, *places):
    """A usual way of writing an exercise with some places changed: (old, new) each."""
    for old, new in places:
        assert usual.count(old) == 1, old
        usual = usual.replace(old, new)
    return dict(exercise=exercise, name=name, says=says, code=usual)


def _unet(name, says, *places):
    return _changed(UNET, "UNet.forward", name, says, *places)


def _attention(name, says, *places):
    return _changed(ATTENTION, "SelfAttention2d.forward", name, says, *places)


def _resblock(name, says, *places):
    return _changed(RESBLOCK, "ResBlock.forward", name, says, *places)


def _embedding(name, says, *places):
    return _changed(EMBEDDING, "timestep_embedding", name, says, *places)


WRONG = [
    _attention(
        "interleaved_there_and_back",
        "there and back",
        ("b n (heads d) -> b heads n d", "b n (d heads) -> b heads n d"),
        ("b heads n d -> b n (heads d)", "b heads n d -> b n (d heads)"),
    ),
    _attention(
        "joined_interleaved",
        "joined interleaved",
        ("b heads n d -> b n (heads d)", "b heads n d -> b n (d heads)"),
    ),
    _unet(
        "calls_the_stage",
        "go through its",
        (
            "    for block, attention in zip(self.mid.blocks, self.mid.attentions):\n"
            "        h = attention(block(h, emb))\n",
            "    h = self.mid(h, emb)\n",
        ),
    ),
    _unet(
        "asks_for_the_truth_of_cond",
        "cond is not None",
        ("emb = emb if cond is None else emb + cond", "emb = emb + cond if cond else emb"),
    ),
    _unet(
        "no_attention_on_the_way_up",
        "way up are never called",
        (
            "h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))",
            "h = block(torch.cat([h, skips.pop()], dim=1), emb)",
        ),
    ),
    _unet(
        "ends_with_the_convolution_alone",
        "missing at the end",
        ("self.conv_out(F.silu(self.norm_out(h)))", "self.conv_out(h)"),
    ),
    dict(
        exercise="ResBlock.forward",
        name="adds_the_change_to_itself",
        says="added to itself",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(h) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="first_silu_after_the_convolution",
        says="after conv1",
        code="""
def forward(self, x, emb):
    h = F.silu(self.conv1(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="clocks_from_one",
        says="numbered from 1",
        also_breaks=["UNet.forward"],
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}")
    i = torch.arange(1, dim // 2 + 1, device=t.device)
    angles = t.float()[:, None] * max_period ** (-2 * i / dim)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="whole_number_exponents",
        says="rounded down",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    i = torch.arange(dim // 2)
    angles = t.float()[:, None] * max_period ** (-2 * i // dim).float()
    return torch.cat([angles.cos(), angles.sin()], dim=1)
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="time_along_the_batch",
        says="The time must be",
        code="""
def forward(self, x, emb):
    time = self.time_proj(F.silu(emb)).view(1, -1, 1, 1)
    h = self.conv1(F.silu(self.norm1(x))) + time
    return self.skip(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))
""",
    ),
    # --- timestep_embedding ---
    dict(
        exercise="timestep_embedding",
        name="sin_before_cos",
        says="sines stand before",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    args = t.float()[:, None] * freqs[None]
    return torch.cat([torch.sin(args), torch.cos(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="no_log",
        says="logarithm is missing",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = torch.exp(-max_period * torch.arange(half) / half)
    args = t.float()[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="frequencies_upside_down",
        says="upside down",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = max_period ** (torch.arange(half, dtype=torch.float64) / half)
    args = t.double()[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1).float()
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="interleaved",
        says="alternate",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    emb = torch.zeros(len(t), dim)
    freqs = torch.exp(-math.log(max_period) * torch.arange(0, dim, 2) / dim)
    args = t.float()[:, None] * freqs[None]
    emb[:, 0::2] = args.cos()
    emb[:, 1::2] = args.sin()
    return emb
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="divides_by_dim",
        says="factor 2 is missing",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half) / dim)
    args = t.float()[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="both_ends_included",
        says="dim/2 - 1",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = torch.logspace(0, -math.log10(max_period), half)
    args = t.float()[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="max_period_ignored",
        says="max_period is not used",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = 10000 ** (-torch.arange(half) / half)
    args = t.float()[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="whole_steps_only",
        says="fraction",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    args = t.long()[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="t_not_float",
        says=r"t\.float\(\)",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    args = t[:, None] @ freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="no_column",
        says=r"own row|t\[:, None\]",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    args = t.float() * freqs
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="odd_length_accepted",
        says="ValueError",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    args = t.float()[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
""",
    ),
    # --- ResBlock.forward ---
    dict(
        exercise="ResBlock.forward",
        name="no_residual",
        says="not added at the end",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    return self.conv2(self.dropout(F.silu(self.norm2(h))))
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="skip_unprojected",
        says="skip must bring x to out_channels",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return x + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="x_is_overwritten",
        says="skip must get the x that came in",
        code="""
def forward(self, x, emb):
    x = self.conv1(F.silu(self.norm1(x)))
    h = x + self.time_proj(F.silu(emb))[:, :, None, None]
    return self.skip(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="x_is_overwritten_at_once",
        says="The skip carries silu",
        code="""
def forward(self, x, emb):
    x = F.silu(self.norm1(x))
    h = self.conv1(x) + self.time_proj(F.silu(emb))[:, :, None, None]
    return self.skip(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="heads_split_and_joined_by_reshape",
        says="plain reshapes, there and back",
        code="""
def forward(self, x):
    B, C, H, W = x.shape
    d = C // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (
        layer(pixels).reshape(B, self.num_heads, H * W, d)
        for layer in (self.to_q, self.to_k, self.to_v)
    )
    out = ((q @ k.transpose(-1, -2)) / d**0.5).softmax(dim=-1) @ v
    out = self.proj(out.reshape(B, H * W, C))
    return x + out.transpose(1, 2).reshape(B, C, H, W)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="plain_reshapes_everywhere",
        says="All moves are plain reshapes",
        code="""
def forward(self, x):
    B, C, H, W = x.shape
    d = C // self.num_heads
    pixels = self.norm(x).reshape(B, H * W, C)
    q, k, v = (
        layer(pixels).reshape(B, self.num_heads, H * W, d)
        for layer in (self.to_q, self.to_k, self.to_v)
    )
    out = ((q @ k.transpose(-1, -2)) / d**0.5).softmax(dim=-1) @ v
    return x + self.proj(out.reshape(B, H * W, C)).reshape(B, C, H, W)
""",
    ),
    dict(
        exercise="Upsample",
        name="a_float32_buffer",
        says="The dtype of what you make must be that of x",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        B, C, H, W = x.shape
        big = torch.empty(B, C, 2 * H, 2 * W)
        for i in (0, 1):
            for j in (0, 1):
                big[:, :, i::2, j::2] = x
        return self.conv(big)
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="x_is_overwritten_by_the_sum",
        says="skip must get the x that came in",
        code="""
def forward(self, x, emb):
    x = self.conv1(F.silu(self.norm1(x)))
    x = x + self.time_proj(F.silu(emb))[:, :, None, None]
    return self.skip(x) + self.conv2(self.dropout(F.silu(self.norm2(x))))
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="no_activation_on_emb",
        says="activation on emb",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(emb)[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="time_after_norm",
        says="after norm2",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = self.norm2(h) + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(h)))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="time_after_the_second_silu",
        says="after norm2 and its SiLU",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = F.silu(self.norm2(h)) + self.time_proj(F.silu(emb))[:, :, None, None]
    return self.skip(x) + self.conv2(self.dropout(h))
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="emb_ignored",
        says="time vector is not used",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="emb_not_unsqueezed",
        says="two more dimensions",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="silu_before_norm",
        says="activation comes before the normalisation",
        code="""
def forward(self, x, emb):
    h = self.conv1(self.norm1(F.silu(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="second_silu_missing",
        says="second SiLU",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(self.norm2(h)))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="relu",
        says="ReLU",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.relu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.relu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="skip_takes_normed",
        says="norm1\\(x\\)",
        code="""
def forward(self, x, emb):
    x = self.norm1(x)
    h = self.conv1(F.silu(x))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="dropout_always_on",
        says="eval mode",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(F.dropout(F.silu(self.norm2(h)), self.dropout.p))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="dropout_without_its_rate",
        says="eval mode",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(F.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="dropout_forgotten",
        says="nothing is dropped",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(F.silu(self.norm2(h)))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="dropout_after_conv2",
        says="after conv2",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb))[:, :, None, None]
    h = self.dropout(self.conv2(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="time_of_the_first",
        says="time of the first",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb[0]))[None, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="time_is_detached",
        says="No gradient reaches time_proj",
        code="""
def forward(self, x, emb):
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_proj(F.silu(emb)).detach()[:, :, None, None]
    h = self.conv2(self.dropout(F.silu(self.norm2(h))))
    return self.skip(x) + h
""",
    ),
    # --- SelfAttention2d.forward ---
    dict(
        exercise="SelfAttention2d.forward",
        name="no_residual",
        says="input is not added",
        code="""
def forward(self, x):
    height, width = x.shape[2:]
    pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
    q, k, v = (
        rearrange(to(pixels), "b n (heads d) -> b heads n d", heads=self.num_heads)
        for to in (self.to_q, self.to_k, self.to_v)
    )
    out = self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b heads n d -> b n (heads d)"))
    return rearrange(out, "b (h w) c -> b c h w", h=height, w=width)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="softmax_over_askers",
        says="wrong axis",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q = self.to_q(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    k = self.to_k(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    v = self.to_v(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    weights = torch.softmax(q @ k.transpose(-1, -2) / d**0.5, dim=-2)
    out = self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="no_scale",
        says="scale is missing",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q = self.to_q(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    k = self.to_k(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    v = self.to_v(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    weights = torch.softmax(q @ k.transpose(-1, -2), dim=-1)
    out = self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="scale_with_all_channels",
        says="C / heads",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q = self.to_q(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    k = self.to_k(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    v = self.to_v(pixels).view(b, n, self.num_heads, d).transpose(1, 2)
    weights = torch.softmax(q @ k.transpose(-1, -2) / c**0.5, dim=-1)
    out = self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="heads_by_plain_reshape",
        says="heads are mixed by a plain reshape",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q = self.to_q(pixels).reshape(b, self.num_heads, n, d)
    k = self.to_k(pixels).reshape(b, self.num_heads, n, d)
    v = self.to_v(pixels).reshape(b, self.num_heads, n, d)
    looked = F.scaled_dot_product_attention(q, k, v)
    out = self.proj(looked.transpose(1, 2).reshape(b, n, c))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="merge_by_plain_reshape",
        says="come back mixed",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (to(pixels).view(b, n, self.num_heads, d).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
    looked = F.scaled_dot_product_attention(q, k, v)
    out = self.proj(looked.reshape(b, n, c))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="norm_forgotten",
        says="normalisation is missing",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = x.flatten(2).transpose(1, 2)
    q, k, v = (to(pixels).view(b, n, self.num_heads, d).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
    out = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="pixels_by_plain_reshape",
        says="channels with places",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).reshape(b, n, c)
    q, k, v = (to(pixels).view(b, n, self.num_heads, d).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
    out = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="pixels_read_column_by_column",
        says="another order",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    pixels = rearrange(self.norm(x), "b c h w -> b (w h) c")
    q, k, v = (rearrange(to(pixels), "b n (heads d) -> b heads n d", heads=self.num_heads) for to in (self.to_q, self.to_k, self.to_v))
    looked = rearrange(F.scaled_dot_product_attention(q, k, v), "b heads n d -> b n (heads d)")
    return x + rearrange(self.proj(looked), "b (h w) c -> b c h w", h=h)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="there_and_back_by_plain_reshape",
        says="came back by one",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).reshape(b, n, c)
    q, k, v = (to(pixels).view(b, n, self.num_heads, d).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
    out = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
    return x + out.reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="back_by_plain_reshape",
        says="way back",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (to(pixels).view(b, n, self.num_heads, d).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
    out = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
    return x + out.reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="one_big_head",
        says="num_heads is not used",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q, k, v = self.to_q(pixels), self.to_k(pixels), self.to_v(pixels)
    out = self.proj(F.scaled_dot_product_attention(q, k, v))
    return x + out.transpose(1, 2).reshape(b, c, h, w)
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="square_pictures_only",
        says="only works for square|height and width",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    n, d = h * w, c // self.num_heads
    pixels = self.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (to(pixels).view(b, n, self.num_heads, d).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
    out = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
    return x + rearrange(out, "b (w h) c -> b c h w", h=h, w=w)
""",
    ),
    # --- Downsample ---
    dict(
        exercise="Downsample",
        name="no_stride",
        says="stride is missing",
        also_breaks=["UNet.forward"],
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="Downsample",
        name="no_padding",
        says="padding is 0",
        also_breaks=["UNet.forward"],
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="Downsample",
        name="average_pooling",
        says="averaged",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return F.avg_pool2d(self.conv(x), 2)
""",
    ),
    dict(
        exercise="Downsample",
        name="pooling_without_weights",
        says="conv",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return F.avg_pool2d(x, 2)
""",
    ),
    dict(
        exercise="Downsample",
        name="kernel_of_two",
        says="kernel size",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2, stride=2)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="Downsample",
        name="doubles_the_channels",
        says="shape",
        also_breaks=["UNet.forward"],
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="Downsample",
        name="one_sided_border",
        says="right and lower border",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))
""",
    ),
    dict(
        exercise="Downsample",
        name="thins_out_first",
        says="lost every second pixel",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x[:, :, ::2, ::2])
""",
    ),
    # --- Upsample ---
    dict(
        exercise="Upsample",
        name="bilinear",
        says="nearest",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear"))
""",
    ),
    dict(
        exercise="Upsample",
        name="conv_first",
        says="convolution comes before",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return F.interpolate(self.conv(x), scale_factor=2, mode="nearest")
""",
    ),
    dict(
        exercise="Upsample",
        name="transposed_after_repeating",
        says="works turned round",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
""",
    ),
    dict(
        exercise="Upsample",
        name="tiled",
        says="tiled",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x.repeat(1, 1, 2, 2))
""",
    ),
    dict(
        exercise="Upsample",
        name="no_conv",
        says="conv",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return F.interpolate(x, scale_factor=2, mode="nearest")
""",
    ),
    dict(
        exercise="Upsample",
        name="transposed_convolution",
        says="transposed convolution",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="Upsample",
        name="no_padding",
        says="eats the border",
        also_breaks=["UNet.forward"],
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
""",
    ),
    dict(
        exercise="Upsample",
        name="only_the_height",
        says="one direction",
        also_breaks=["UNet.forward"],
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x.repeat_interleave(2, dim=2))
""",
    ),
    # --- UNet.forward ---
    dict(
        exercise="UNet.forward",
        name="cond_ignored",
        says="cond is not used",
        code="""
def forward(self, x_t, t, cond=None):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="time_not_embedded",
        says="reads t itself",
        code="""
def forward(self, x_t, t, cond=None):
    emb = self.time_mlp(t.to(x_t.dtype)[:, None].repeat(1, self.embedding_channels))
    emb = emb if cond is None else emb + cond
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="cond_in_place_of_the_time",
        says="takes the time's place",
        code="""
def forward(self, x_t, t, cond=None):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    if cond is not None:
        emb = cond
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="first_in_first_out",
        says="wrong order|last in, first out",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop(0)], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="skip_before_h",
        says="other way round",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([skips.pop(), h], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="resize_not_kept",
        says="resize on the way down is a skip|one after every resize",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="first_picture_not_kept",
        says="one after conv_in",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = []
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="resize_before_the_blocks",
        says="different size|smaller|number of channels",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        if stage.resize is not None:
            h = stage.resize(h)
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="no_silu_at_the_end",
        says="SiLU before conv_out",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(self.norm_out(h))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="t_not_embedded",
        says="timestep_embedding",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(t.to(x_t.dtype)[:, None])
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="attention_before_the_block",
        says="before the block",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = block(attention(h), emb)
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="skip_kept_before_attention",
        says="before the attention",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = block(h, emb)
            skips.append(h)
            h = attention(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="middle_forgotten",
        says="middle stage is left out",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="skips_added",
        says="concatenated",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h + skips.pop(), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="dtype_not_followed",
        says="x_t's dtype",
        code="""
def forward(self, x_t, t):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels))
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(h, emb))
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    _embedding(
        "returns_the_error",
        "Raise it",
        (
            '        raise ValueError("dim must be even")',
            '        return ValueError("dim must be even")',
        ),
    ),
    _embedding(
        "another_error_for_an_odd_length",
        "should raise a ValueError",
        (
            '        raise ValueError("dim must be even")',
            '        raise NotImplementedError("an odd dim")',
        ),
    ),
    _embedding(
        "refuses_even_lengths",
        "this dim is even",
        ("if dim % 2:", "if dim % 2 == 0:"),
    ),
    _embedding(
        "log_of_a_number",
        "math.log and math.exp",
        ("-math.log(", "-torch.log("),
    ),
    _embedding(
        "log10",
        "log10 is not",
        ("math.log(", "math.log10("),
    ),
    _embedding(
        "factor_two_twice",
        "stands there twice",
        ("* torch.arange(half)", "* 2 * torch.arange(half)"),
    ),
    _embedding(
        "changes_t",
        "changes t in place",
        (
            "    angles = t.float()[:, None] * speeds",
            "    angles = t.float().unsqueeze_(1) * speeds",
        ),
    ),
    _resblock(
        "adds_to_the_skip_in_place",
        "changes x",
        ("    return self.skip(x) + h", "    out = self.skip(x)\n    out += h\n    return out"),
    ),
    _resblock(
        "activates_emb_in_place",
        "changes emb",
        ("F.silu(emb)", "F.silu(emb, inplace=True)"),
    ),
    _resblock(
        "dropout_of_one_half",
        "own rate",
        (
            "self.dropout(F.silu(self.norm2(h)))",
            "F.dropout(F.silu(self.norm2(h)), training=self.training)",
        ),
    ),
    _resblock(
        "dropout_before_silu",
        "before the second SiLU",
        ("self.dropout(F.silu(self.norm2(h)))", "F.silu(self.dropout(self.norm2(h)))"),
    ),
    _resblock(
        "dropout_twice",
        "in a second one",
        ("F.silu(self.norm1(x))", "self.dropout(F.silu(self.norm1(x)))"),
    ),
    _resblock(
        "dropout_of_channels",
        "Whole channels",
        (
            "self.dropout(F.silu(self.norm2(h)))",
            "F.dropout2d(F.silu(self.norm2(h)), self.dropout.p, self.training)",
        ),
    ),
    _resblock(
        "dropout_without_making_up",
        "divided by 1 - p",
        (
            "    h = self.conv2(self.dropout(F.silu(self.norm2(h))))",
            "    h = F.silu(self.norm2(h))\n    h = h * (torch.rand_like(h) > self.dropout.p) if self.training else h\n    h = self.conv2(h)",
        ),
    ),
    _resblock(
        "no_gradient_at_all",
        "no gradient at all",
        ("    return self.skip(x) + h", "    return (self.skip(x) + h).detach()"),
    ),
    _resblock(
        "emb_is_detached",
        "No gradient reaches emb",
        ("F.silu(emb)", "F.silu(emb.detach())"),
    ),
    _resblock(
        "skip_is_detached",
        "gradient for x",
        ("self.skip(x)", "self.skip(x.clone().detach())"),
    ),
    _resblock(
        "norm1_twice",
        "norm1 is used twice",
        ("self.norm2", "self.norm1"),
    ),
    _resblock(
        "conv1_twice",
        "conv1 is used twice",
        ("self.conv2", "self.conv1"),
    ),
    _resblock(
        "gelu",
        "GELU",
        ("F.silu(self.norm1(x))", "F.gelu(self.norm1(x))"),
        ("F.silu(emb)", "F.gelu(emb)"),
        ("F.silu(self.norm2(h))", "F.gelu(self.norm2(h))"),
    ),
    _resblock(
        "sigmoid",
        "bare sigmoid",
        ("F.silu(self.norm1(x))", "torch.sigmoid(self.norm1(x))"),
        ("F.silu(emb)", "torch.sigmoid(emb)"),
        ("F.silu(self.norm2(h))", "torch.sigmoid(self.norm2(h))"),
    ),
    _resblock(
        "silu_after_time_proj",
        "SiLU comes after time_proj",
        ("self.time_proj(F.silu(emb))", "F.silu(self.time_proj(emb))"),
    ),
    _attention(
        "changes_x",
        "changes x in place",
        ("    return x + rearrange", "    x += rearrange"),
        ("h=height, w=width)", "h=height, w=width)\n    return x"),
    ),
    _attention(
        "scale_by_heads",
        "scale is √heads",
        (
            "F.scaled_dot_product_attention(q, k, v)",
            "(q @ k.mT / self.num_heads**0.5).softmax(-1) @ v",
        ),
    ),
    _attention(
        "scaled_twice",
        "divides by √d itself",
        (
            "F.scaled_dot_product_attention(q, k, v)",
            "F.scaled_dot_product_attention(q / q.shape[-1] ** 0.5, k, v)",
        ),
    ),
    _attention(
        "halves_instead_of_rooting",
        "is d / 2",
        (
            "F.scaled_dot_product_attention(q, k, v)",
            "(q @ k.mT / q.shape[-1] ** 1/2).softmax(-1) @ v",
        ),
    ),
    _attention(
        "keys_from_to_q",
        "made by to_q",
        ("(self.to_q, self.to_k, self.to_v)", "(self.to_q, self.to_q, self.to_v)"),
    ),
    _attention(
        "values_from_to_k",
        "values are the keys",
        ("(self.to_q, self.to_k, self.to_v)", "(self.to_q, self.to_k, self.to_k)"),
    ),
    _attention(
        "values_without_norm",
        "values are read from x",
        (
            "    looked = rearrange(F.scaled_dot_product_attention(q, k, v)",
            '    rows = self.to_v(rearrange(x, "b c h w -> b (h w) c"))\n    v = rearrange(rows, "b n (heads d) -> b heads n d", heads=self.num_heads)\n    looked = rearrange(F.scaled_dot_product_attention(q, k, v)',
        ),
    ),
    _attention(
        "between_heads",
        "heads of one pixel",
        ('-> b heads n d", heads', '-> b n heads d", heads'),
        ("b heads n d -> b n (heads d)", "b n heads d -> b n (heads d)"),
    ),
    _attention(
        "always_two_heads",
        "always two heads",
        ("heads=self.num_heads", "heads=2"),
    ),
    _attention(
        "input_is_detached",
        "gradient for x",
        ("self.norm(x)", "self.norm(x.detach())"),
    ),
    _attention(
        "drops_in_training",
        "While it trains",
        ('(q, k, v), "b', '(q, k, v, dropout_p=0.1 * self.training), "b'),
    ),
    _unet(
        "skips_are_detached",
        "gradient for x_t",
        (
            "            h = attention(block(h, emb))\n            skips.append(h)",
            "            h = attention(block(h, emb))\n            skips.append(h.detach())",
        ),
    ),
    _unet(
        "cond_is_detached",
        "No gradient reaches cond",
        ("else emb + cond", "else emb + cond.detach()"),
    ),
    _unet(
        "no_gradient_at_all",
        "no gradient at all",
        (
            "return self.conv_out(F.silu(self.norm_out(h)))",
            "return self.conv_out(F.silu(self.norm_out(h))).detach()",
        ),
    ),
    _unet(
        "resizes_once",
        "different size",
        ("    for stage in self.down:", "    for i, stage in enumerate(self.down):"),
        (
            "            skips.append(h)\n        if stage.resize is not None",
            "            skips.append(h)\n        if i == 0 and stage.resize is not None",
        ),
    ),
    _unet(
        "looks_at_the_skip",
        "Every block gets the same skip",
        ("skips.pop()", "skips[-1]"),
    ),
    _unet(
        "cond_is_concatenated",
        "not concatenated",
        ("else emb + cond", "else torch.cat([emb, cond], dim=1)"),
    ),
    _unet(
        "cond_is_forgotten_at_times",
        "cond",
        ("emb if cond is None", "emb if cond is None or cond.sum() < 0"),
    ),
    _unet(
        "block_reads_t",
        "second argument is emb",
        (
            "            h = attention(block(h, emb))\n            skips",
            "            h = attention(block(h, t))\n            skips",
        ),
    ),
    _unet(
        "thousandths_of_t",
        "divided by 1000",
        ("timestep_embedding(t,", "timestep_embedding(t / 1000,"),
    ),
    _unet(
        "t_from_one",
        "1 is added to t",
        ("timestep_embedding(t,", "timestep_embedding(t + 1,"),
    ),
    _unet(
        "changes_cond",
        "changes cond",
        (
            "    emb = emb if cond is None else emb + cond",
            "    if cond is not None:\n        emb = cond.add_(emb)",
        ),
    ),
    dict(
        exercise="Downsample",
        name="input_is_detached",
        says="No gradient reaches x",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x.detach())
""",
    ),
    dict(
        exercise="Downsample",
        name="channels_hard_coded",
        says="another number of channels",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)
""",
    ),
    dict(
        exercise="Upsample",
        name="no_gradient_at_all",
        says="no gradient at all",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        with torch.no_grad():
            return self.conv(F.interpolate(x, scale_factor=2))
""",
    ),
    dict(
        exercise="Upsample",
        name="repeats_without_gradient",
        says="No gradient reaches x",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        with torch.no_grad():
            x = F.interpolate(x, scale_factor=2)
        return self.conv(x)
""",
    ),
]

RIGHT = [
    dict(
        exercise="timestep_embedding",
        name="own_error_class",
        code="""
class OddDim(ValueError):
    pass


def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise OddDim(f"dim must be even, got {dim}")
    speeds = max_period ** (-torch.arange(dim // 2) / (dim // 2))
    angles = torch.outer(t.float(), speeds)
    return torch.hstack([angles.cos(), angles.sin()])
""",
    ),
    # --- timestep_embedding ---
    dict(
        exercise="timestep_embedding",
        name="float64_inside",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2 == 1:
        raise ValueError("an odd dim cannot be halved")
    i = torch.arange(dim // 2, dtype=torch.float64, device=t.device)
    omega = max_period ** (-2 * i / dim)
    angle = torch.outer(t.double(), omega)
    return torch.hstack((torch.cos(angle), torch.sin(angle))).float()
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="loop",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2 != 0:
        raise ValueError(f"dim is {dim}, it must be even")
    rows = []
    for step in t.tolist():
        speeds = [max_period ** (-2 * i / dim) for i in range(dim // 2)]
        rows.append([math.cos(step * w) for w in speeds] + [math.sin(step * w) for w in speeds])
    return torch.tensor(rows, dtype=torch.float32)
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="fills_in_place",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0, dtype=torch.float32):
    half, rest = divmod(dim, 2)
    if rest:
        raise ValueError("dim must be even")
    out = torch.empty(t.shape[0], dim, dtype=dtype)
    for i in range(half):
        w = math.exp(-math.log(max_period) * i / half)
        out[:, i] = torch.cos(t * w)
        out[:, half + i] = torch.sin(t * w)
    return out
""",
    ),
    dict(
        exercise="timestep_embedding",
        name="sine_as_a_late_cosine",
        code="""
def timestep_embedding(t, dim, max_period=10_000.0):
    if dim % 2:
        raise ValueError("dim must be even")
    half = dim // 2
    speeds = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    angles = t.double()[:, None] * torch.cat([speeds, speeds]).double()
    late = torch.zeros(dim, dtype=torch.float64)
    late[half:] = math.pi / 2
    return torch.cos(angles - late).float()
""",
    ),
    # --- ResBlock.forward ---
    dict(
        exercise="ResBlock.forward",
        name="one_line_each",
        code="""
def forward(self, x, emb):
    identity = self.skip(x)
    out = self.norm1(x)
    out = out * torch.sigmoid(out)
    out = self.conv1(out)
    time = self.time_proj(nn.SiLU()(emb))
    out = out + time.unsqueeze(-1).unsqueeze(-1)
    out = self.norm2(out)
    out = nn.functional.silu(out)
    out = self.dropout(out)
    out = self.conv2(out)
    out += identity
    return out
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="helper_method",
        code="""
def _act(self, norm, h):
    return F.silu(norm(h))

def forward(self, x, emb):
    b, c = emb.shape[0], self.time_proj.out_features
    shift = self.time_proj(F.silu(emb)).reshape(b, c, 1, 1)
    h = self.conv1(self._act(self.norm1, x)) + shift
    return self.conv2(self.dropout(self._act(self.norm2, h))) + self.skip(x)
""",
    ),
    dict(
        exercise="ResBlock.forward",
        name="dropout_by_hand",
        code="""
def forward(self, x, emb):
    h = F.silu(self.norm1(x))
    h = self.conv1(h)
    h = h + rearrange(self.time_proj(F.silu(emb)), "b c -> b c 1 1")
    h = F.silu(self.norm2(h))
    h = F.dropout(h, p=self.dropout.p, training=self.training)
    return torch.add(self.conv2(h), self.skip(x))
""",
    ),
    # --- SelfAttention2d.forward ---
    dict(
        exercise="SelfAttention2d.forward",
        name="by_hand",
        code="""
def forward(self, x):
    b, c, h, w = x.shape
    d = c // self.num_heads
    tokens = self.norm(x).view(b, c, h * w).permute(0, 2, 1)
    def split(y):
        return y.reshape(b, h * w, self.num_heads, d).permute(0, 2, 1, 3)
    q, k, v = split(self.to_q(tokens)), split(self.to_k(tokens)), split(self.to_v(tokens))
    attn = torch.softmax(torch.matmul(q, k.mT) * d**-0.5, dim=-1)
    y = torch.matmul(attn, v).permute(0, 2, 1, 3).reshape(b, h * w, c)
    y = self.proj(y).permute(0, 2, 1).reshape(b, c, h, w)
    return y + x
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="einsum",
        code="""
def forward(self, x):
    heads = self.num_heads
    pixels = rearrange(self.norm(x), "b c h w -> b (h w) c")
    q = rearrange(self.to_q(pixels), "b n (g d) -> b n g d", g=heads)
    k = rearrange(self.to_k(pixels), "b n (g d) -> b n g d", g=heads)
    v = rearrange(self.to_v(pixels), "b n (g d) -> b n g d", g=heads)
    scores = torch.einsum("bngd,bmgd->bgnm", q, k) / math.sqrt(q.shape[-1])
    out = torch.einsum("bgnm,bmgd->bngd", scores.softmax(-1), v)
    out = self.proj(out.flatten(2))
    return x + rearrange(out, "b (h w) c -> b c h w", h=x.shape[2])
""",
    ),
    dict(
        exercise="SelfAttention2d.forward",
        name="loop_over_heads",
        code="""
def forward(self, x):
    height, width = x.shape[-2:]
    seq = self.norm(x).flatten(2).mT
    answers = []
    for q, k, v in zip(
        self.to_q(seq).chunk(self.num_heads, -1),
        self.to_k(seq).chunk(self.num_heads, -1),
        self.to_v(seq).chunk(self.num_heads, -1),
    ):
        weights = F.softmax(q @ k.transpose(1, 2) / k.size(-1) ** 0.5, dim=2)
        answers.append(weights @ v)
    out = self.proj(torch.cat(answers, dim=-1))
    return x + out.mT.unflatten(2, (height, width))
""",
    ),
    # --- Downsample ---
    dict(
        exercise="Downsample",
        name="keywords",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels, kernel=3):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels=channels, out_channels=channels, kernel_size=(kernel, kernel), stride=(2, 2), padding="valid"
        )

    def forward(self, x):
        return self.conv(F.pad(x, (1, 1, 1, 1)))
""",
    ),
    dict(
        exercise="Downsample",
        name="every_second_of_a_plain_convolution",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels: int):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, 3, padding="same")

    def forward(self, image):
        return self.conv(image)[..., ::2, ::2]
""",
    ),
    dict(
        exercise="Downsample",
        name="functional",
        code="""
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3)

    def forward(self, x):
        return F.conv2d(x, self.conv.weight, self.conv.bias, 2, 1)
""",
    ),
    # --- Upsample ---
    dict(
        exercise="Upsample",
        name="repeat_interleave",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x):
        return self.conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
""",
    ),
    dict(
        exercise="Upsample",
        name="nn_upsample",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.grow = nn.Upsample(scale_factor=2)
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x):
        return self.conv(self.grow(x))
""",
    ),
    dict(
        exercise="Upsample",
        name="expand",
        code="""
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding="same")

    def forward(self, x):
        b, c, h, w = x.shape
        x = x[:, :, :, None, :, None].expand(b, c, h, 2, w, 2).reshape(b, c, 2 * h, 2 * w)
        return self.conv(x)
""",
    ),
    # --- UNet.forward ---
    dict(
        exercise="UNet.forward",
        name="indices",
        code="""
def forward(self, x_t, t, cond=None):
    e = timestep_embedding(t, self.embedding_channels)
    e = self.time_mlp(e.to(x_t))
    e = e if cond is None else cond + e
    x = self.conv_in(x_t)
    kept = [x]
    for stage in self.down:
        for i in range(len(stage.blocks)):
            x = stage.blocks[i](x, e)
            x = stage.attentions[i](x)
            kept.append(x)
        if stage.resize:
            x = stage.resize(x)
            kept.append(x)
    x = self.mid.blocks[0](x, e)
    x = self.mid.attentions[0](x)
    x = self.mid.blocks[1](x, e)
    n = len(kept)
    for stage in self.up:
        for i in range(len(stage.blocks)):
            n -= 1
            x = torch.cat((x, kept[n]), 1)
            x = stage.attentions[i](stage.blocks[i](x, e))
        if stage.resize:
            x = stage.resize(x)
    x = self.norm_out(x)
    return self.conv_out(x * x.sigmoid())
""",
    ),
    dict(
        exercise="UNet.forward",
        name="helper_methods",
        code="""
def run(self, stage, h, emb, skips):
    for block, attention in zip(stage.blocks, stage.attentions):
        if skips is not None:
            h = torch.cat([h, skips.pop()], dim=1)
        h = attention(block(h, emb))
        yield h

def forward(self, x_t, t, cond=0):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype))
    emb = emb + (0 if cond is None else cond)
    h = self.conv_in(x_t)
    skips = [h]
    for stage in self.down:
        for h in self.run(stage, h, emb, None):
            skips.append(h)
        if stage.resize is not None:
            h = stage.resize(h)
            skips.append(h)
    for h in self.run(self.mid, h, emb, None):
        pass
    for stage in self.up:
        for h in self.run(stage, h, emb, skips):
            pass
        h = h if stage.resize is None else stage.resize(h)
    return self.conv_out(F.silu(self.norm_out(h)))
""",
    ),
    dict(
        exercise="UNet.forward",
        name="deque",
        code="""
from collections import deque

def forward(self, x_t, t, cond=None, return_features=False):
    emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(dtype=x_t.dtype, device=x_t.device))
    if cond is not None:
        emb = emb + cond
    features = deque([self.conv_in(x_t)])
    for stage in self.down:
        for block, attention in zip(stage.blocks, stage.attentions):
            features.appendleft(attention(block(features[0], emb)))
        if stage.resize is not None:
            features.appendleft(stage.resize(features[0]))
    h = features[0]
    for block, attention in zip(self.mid.blocks, self.mid.attentions):
        h = attention(block(h, emb))
    for stage in self.up:
        for block, attention in zip(stage.blocks, stage.attentions):
            h = attention(block(torch.cat([h, features.popleft()], dim=1), emb))
        if stage.resize is not None:
            h = stage.resize(h)
    h = F.silu(self.norm_out(h))
    return (self.conv_out(h), h) if return_features else self.conv_out(h)
""",
    ),
]
