"""Lesson 9: mistakes that people make, and right answers in other styles.

Each wrong answer loses the points of its exercise, and the message matches `says`. Each right
answer scores 100. `code` takes the place of the reference; methods replace those of the class.
"""

JOINT = """
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = torch.cat([qx, qw], 2), torch.cat([kx, kw], 2), torch.cat([vx, vw], 2)
    mask = joint_mask(context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
"""


def _joint(name, says, old, new):
    """The usual way of writing JointAttentionBlock.forward with one place changed."""
    assert JOINT.count(old) == 1, old
    return dict(exercise="JointAttentionBlock", name=name, says=says, code=JOINT.replace(old, new))


WRONG = [
    dict(
        exercise="unpatchify",
        name="no_gradient",
        says="no gradient|No gradient",
        code="""
@torch.no_grad()
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=height // p, p=p, q=p)
""",
    ),
    dict(
        exercise="modulate",
        name="detached_wishes",
        says="No gradient reaches",
        code="""
def modulate(x, shift, scale):
    return x * (1 + scale.detach()[:, None]) + shift.detach()[:, None]
""",
    ),
    dict(
        exercise="DiTBlock",
        name="two_heads_always",
        says="num_heads does not reach attn",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, 2)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))

def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="mlp_ends_with_zeros_too",
        says="neither ever gets a gradient",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), zero_linear(4 * dim, dim))
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))

def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="dropout_in_forward",
        says="In training the block answers",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))

def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * F.dropout(self.mlp(modulate(self.norm2(x), shift2, scale2)), 0.1, self.training)
""",
    ),
    dict(
        exercise="DiTBlock",
        name="silu_twice",
        says="once more in forward",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))

def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(c)).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="x_detached_in_attention",
        says="not all of the gradient comes back to x",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))

def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x.detach()), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiT.forward",
        name="label_dropped_in_training",
        says="In training the DiT answers",
        code="""
def forward(self, x_t, t, label):
    if self.training:
        label = torch.where(torch.rand(len(label)) < 0.1, self.null, label)
    height, width = x_t.shape[2:]
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    x = self.final(x, c)
    return unpatchify(x, self.patch_size, height, width)
""",
    ),
    dict(
        exercise="DiT.forward",
        name="no_grad",
        says="no gradient at all",
        code="""
@torch.no_grad()
def forward(self, x_t, t, label):
    height, width = x_t.shape[2:]
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    x = self.final(x, c)
    return unpatchify(x, self.patch_size, height, width)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="no_grad",
        says="no gradient at all",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)

@torch.no_grad()
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = torch.cat([qx, qw], 2), torch.cat([kx, kw], 2), torch.cat([vx, vw], 2)
    mask = joint_mask(context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="context_detached",
        says="comes back to context",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)

def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context.detach(), c)
    query, key, value = torch.cat([qx, qw], 2), torch.cat([kx, kw], 2), torch.cat([vx, vw], 2)
    mask = joint_mask(context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="mask_only_if_words_go_on",
        says="mask",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)

def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = torch.cat([qx, qw], 2), torch.cat([kx, kw], 2), torch.cat([vx, vw], 2)
    mask = None if self.context_pre_only else joint_mask(context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="no_scale_by_hand",
        says="not divided by",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)

def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = torch.cat([qx, qw], 2), torch.cat([kx, kw], 2), torch.cat([vx, vw], 2)
    mask = joint_mask(context_mask, n)
    seen = query @ key.mT
    if mask is not None:
        seen = seen.masked_fill(~mask, float('-inf'))
    seen = seen.softmax(-1) @ value
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="masked_with_zero",
        says="Masked scores become 0",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)

def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = torch.cat([qx, qw], 2), torch.cat([kx, kw], 2), torch.cat([vx, vw], 2)
    mask = joint_mask(context_mask, n)
    seen = query @ key.mT / query.shape[-1] ** 0.5
    if mask is not None:
        seen = seen * mask
    seen = seen.softmax(-1) @ value
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="patchify",
        name="padded_in_silence",
        says="added by filling up",
        code="""
def patchify(x, patch_size):
    p = patch_size
    x = F.pad(x, (0, -x.shape[3] % p, 0, -x.shape[2] % p))
    return rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p)
""",
    ),
    # --- patchify ---
    dict(
        exercise="patchify",
        name="plain_reshape",
        says="plain reshape",
        code="""
def patchify(x, patch_size):
    b, c, h, w = x.shape
    if h % patch_size or w % patch_size:
        raise ValueError("whole patches, please")
    return x.reshape(b, -1, patch_size * patch_size * c)
""",
    ),
    dict(
        exercise="patchify",
        name="channels_first",
        says="channel comes first",
        code="""
def patchify(x, patch_size):
    return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=patch_size, q=patch_size)
""",
    ),
    dict(
        exercise="patchify",
        name="columns_inside",
        says="rows and columns have changed places",
        code="""
def patchify(x, patch_size):
    return rearrange(x, "b c (h p) (w q) -> b (h w) (q p c)", p=patch_size, q=patch_size)
""",
    ),
    dict(
        exercise="patchify",
        name="patches_by_columns",
        says="column by column",
        code="""
def patchify(x, patch_size):
    return rearrange(x, "b c (h p) (w q) -> b (w h) (p q c)", p=patch_size, q=patch_size)
""",
    ),
    dict(
        exercise="patchify",
        name="patch_axis_second",
        says="patch first",
        code="""
def patchify(x, patch_size):
    return rearrange(x, "b c (p h) (q w) -> b (h w) (p q c)", p=patch_size, q=patch_size)
""",
    ),
    dict(
        exercise="patchify",
        name="a_grid_of_patches",
        says="should be a list",
        code="""
def patchify(x, patch_size):
    return rearrange(x, "b c (h p) (w q) -> b h w (p q c)", p=patch_size, q=patch_size)
""",
    ),
    dict(
        exercise="patchify",
        name="square_pictures_only",
        says="Height and width differ",
        code="""
def patchify(x, patch_size):
    b, c, h, w = x.shape
    p, n = patch_size, h // patch_size
    x = x.reshape(b, c, n, p, n, p)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, n * n, p * p * c)
""",
    ),
    dict(
        exercise="patchify",
        name="pixels_lost",
        says="without complaint",
        code="""
def patchify(x, patch_size):
    p = patch_size
    b, c, h, w = x.shape
    found = []
    for i in range(h // p):
        for j in range(w // p):
            piece = x[:, :, i * p : (i + 1) * p, j * p : (j + 1) * p]
            found.append(piece.permute(0, 2, 3, 1).reshape(b, -1))
    return torch.stack(found, dim=1)
""",
    ),
    dict(
        exercise="patchify",
        name="side_said_once",
        says="side of a patch twice",
        code="""
def patchify(x, patch_size):
    return rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=patch_size)
""",
    ),
    # --- unpatchify ---
    dict(
        exercise="unpatchify",
        name="square_grid",
        says="grid is guessed",
        code="""
def unpatchify(patches, patch_size, height, width):
    h = int(patches.shape[1] ** 0.5)
    return rearrange(
        patches, "b (h w) (p q c) -> b c (h p) (w q)", h=h, p=patch_size, q=patch_size
    )
""",
    ),
    dict(
        exercise="unpatchify",
        name="plain_reshape",
        says="plain reshape",
        code="""
def unpatchify(patches, patch_size, height, width):
    return patches.reshape(len(patches), -1, height, width)
""",
    ),
    dict(
        exercise="unpatchify",
        name="channels_first",
        says="channel is read first",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", h=height // p, p=p, q=p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="columns_inside",
        says="rows and columns have changed places",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (q p c) -> b c (h p) (w q)", h=height // p, p=p, q=p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="patches_by_columns",
        says="column by column",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (w h) (p q c) -> b c (h p) (w q)", h=height // p, p=p, q=p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="height_for_rows",
        says="height // patch_size",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=height, p=p, q=p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="pixels_for_rows_and_columns",
        says="not pixels",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(
        patches, "b (h w) (p q c) -> b c (h p) (w q)", h=height, w=width, p=p, q=p
    )
""",
    ),
    dict(
        exercise="unpatchify",
        name="rows_and_columns_exchanged",
        says="Rows and columns of patches are exchanged",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (p q c) -> b c (w p) (h q)", h=height // p, p=p, q=p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="rows_not_said",
        says="how many rows of patches",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", p=p, q=p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="width_for_height",
        says="Height and width have changed places",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=width // p, p=p, q=p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="square_pictures_only",
        says="they differ",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    b, n, _ = patches.shape
    side = int(n ** 0.5)
    x = patches.reshape(b, side, side, p, p, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, side * p, side * p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="channels_last",
        says="channel is the last axis",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    return rearrange(patches, "b (h w) (p q c) -> b (h p) (w q) c", h=height // p, p=p, q=p)
""",
    ),
    # --- sincos_position_embedding_2d ---
    dict(
        exercise="sincos_position_embedding_2d",
        name="row_first",
        says="row y comes first",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat(height)
    y = torch.arange(height).repeat_interleave(width)
    return torch.cat([clocks(y, dim // 2), clocks(x, dim // 2)], dim=-1)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="columns_from_one",
        says="columns x are counted from 1",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(1, width + 1).repeat(height)
    y = torch.arange(height).repeat_interleave(width)
    return torch.cat([clocks(x, dim // 2), clocks(y, dim // 2)], dim=-1)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="in_float64",
        says="float64",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat(height)
    y = torch.arange(height).repeat_interleave(width)
    return torch.cat([clocks(x, dim // 2), clocks(y, dim // 2)], dim=-1).double()
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="places_by_columns",
        says="go column by column",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat_interleave(height)
    y = torch.arange(height).repeat(width)
    return torch.cat([clocks(x, dim // 2), clocks(y, dim // 2)], dim=-1)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="cosines_first",
        says="cosines come first",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat(height)
    y = torch.arange(height).repeat_interleave(width)
    return torch.cat([timestep_embedding(v, dim // 2) for v in (x, y)], dim=-1)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="number_of_the_patch",
        says="number of the patch",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    return clocks(torch.arange(height * width), dim)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="added_up",
        says="added up",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat(height)
    y = torch.arange(height).repeat_interleave(width)
    return clocks(x, dim) + clocks(y, dim)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="twice_as_long",
        says="dim // 2|should have shape",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat(height)
    y = torch.arange(height).repeat_interleave(width)
    return torch.cat([clocks(x, dim), clocks(y, dim)], dim=-1)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="sizes_mixed_up",
        says="height · width places|as many",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat(width)
    y = torch.arange(height).repeat_interleave(height)
    return torch.cat([clocks(x, dim // 2), clocks(y, dim // 2)], dim=-1)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="both_repeat",
        says="y runs 0 1 2 0 1 2",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    x = torch.arange(width).repeat(height)
    y = torch.arange(height).repeat(width)
    return torch.cat([clocks(x, dim // 2), clocks(y, dim // 2)], dim=-1)
""",
    ),
    # --- modulate ---
    dict(
        exercise="modulate",
        name="no_one",
        says="1 is missing",
        code="""
def modulate(x, shift, scale):
    return x * scale[:, None] + shift[:, None]
""",
    ),
    dict(
        exercise="modulate",
        name="exchanged",
        says="changed places",
        code="""
def modulate(x, shift, scale):
    return x * (1 + shift[:, None]) + scale[:, None]
""",
    ),
    dict(
        exercise="modulate",
        name="shift_first",
        says="shift comes before",
        code="""
def modulate(x, shift, scale):
    return (x + shift[:, None]) * (1 + scale[:, None])
""",
    ),
    dict(
        exercise="modulate",
        name="no_new_axis",
        says="wrong axis",
        code="""
def modulate(x, shift, scale):
    return x * (1 + scale) + shift
""",
    ),
    dict(
        exercise="modulate",
        name="axis_in_front",
        says="wrong axis",
        code="""
def modulate(x, shift, scale):
    return x * (1 + scale[None]) + shift[None]
""",
    ),
    dict(
        exercise="modulate",
        name="axis_behind",
        says="axis for the patches",
        code="""
def modulate(x, shift, scale):
    return x * (1 + scale[:, :, None]) + shift[:, :, None]
""",
    ),
    dict(
        exercise="modulate",
        name="in_place",
        says="in place",
        code="""
def modulate(x, shift, scale):
    x *= 1 + scale[:, None]
    x += shift[:, None]
    return x
""",
    ),
    # --- DiTBlock ---
    dict(
        exercise="DiTBlock",
        name="exact_gelu",
        says="GELU is the exact one",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="not_zero",
        says="begin at 0",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="bias_forgotten",
        says="biases .* begin at 0",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
    nn.init.zeros_(self.modulation[1].weight)
""",
    ),
    dict(
        exercise="DiTBlock",
        name="initialised_twice",
        says="begin at 0",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))
    for module in self.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
""",
    ),
    dict(
        exercise="DiTBlock",
        name="norms_with_weights",
        says="does not belong there",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = nn.LayerNorm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = nn.LayerNorm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="norm_eps_forgotten",
        says="eps that was asked for",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="no_silu",
        says="SiLU before the linear layer is missing",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(nn.Identity(), zero_linear(dim, 6 * dim))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="silu_left_out",
        says="SiLU is missing",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(zero_linear(dim, 6 * dim))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="a_linear_layer_alone",
        says="SiLU is missing",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = zero_linear(dim, 6 * dim)
""",
    ),
    dict(
        exercise="DiTBlock",
        name="silu_in_forward",
        says="wrong place, in forward",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = zero_linear(dim, 6 * dim)

def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(c)).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="silu_in_forward_beside_a_sequential",
        says="wrong place, in forward",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(zero_linear(dim, 6 * dim))

def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(c)).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="norm1_twice",
        says="Both halves use norm1",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm1(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="norm2_twice",
        says="Both halves use norm2",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm2(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="norms_exchanged",
        says="norms are exchanged",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm2(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm1(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="no_gate",
        says="gate|pass unchanged",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="no_second_gate",
        says="gate2 is not used|pass unchanged",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="gate_multiplies_the_sum",
        says="gate|pass unchanged",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = gate1[:, None] * (x + self.attn(modulate(self.norm1(x), shift1, scale1)))
    return gate2[:, None] * (x + self.mlp(modulate(self.norm2(x), shift2, scale2)))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="scale_before_shift_in_the_second_half",
        says="shift2 and scale2 are exchanged",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, scale2, shift2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="one_added_twice",
        says="adds a 1 itself",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, 1 + scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, 1 + scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="silu_behind",
        says="stands behind the linear layer",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = plain_norm(dim)
    self.attn = SelfAttention(dim, num_heads)
    self.norm2 = plain_norm(dim, norm_eps)
    self.mlp = mlp(dim)
    self.modulation = nn.Sequential(zero_linear(dim, 6 * dim), nn.SiLU())
""",
    ),
    dict(
        exercise="DiTBlock",
        name="scale_before_shift",
        says="shift1, scale1, gate1, shift2, scale2, gate2.*scale and shift exchanged",
        code="""
def forward(self, x, c):
    scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="gates_last",
        says="Yours have both gates at the end",
        code="""
def forward(self, x, c):
    shift1, scale1, shift2, scale2, gate1, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="sorted_by_kind",
        says="shift1, scale1, gate1, shift2, scale2, gate2.*sorted by kind",
        code="""
def forward(self, x, c):
    shift1, shift2, scale1, scale2, gate1, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="gate_in_the_middle",
        says="shift1, scale1, gate1.*gate and scale exchanged",
        code="""
def forward(self, x, c):
    shift1, gate1, scale1, shift2, gate2, scale2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="shift_last",
        says="shift1, scale1, gate1.*shift last",
        code="""
def forward(self, x, c):
    scale1, gate1, shift1, scale2, gate2, shift2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="scales_first_of_all",
        says="shift1, scale1, gate1.*sorted by kind",
        code="""
def forward(self, x, c):
    scale1, scale2, shift1, shift2, gate1, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="mlp_reads_the_old_x",
        says="mlp must read",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    seen = gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + seen + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="mlp_not_modulated",
        says="without shift2",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2[:, None] * self.mlp(self.norm2(x))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="gate_without_axis",
        says=r"gate1\[:, None\]",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="axis_twice",
        says="only the gates|as they are",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)[:, None].chunk(6, dim=-1)
    x = x + gate1 * self.attn(modulate(self.norm1(x), shift1, scale1))
    return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="in_place",
        says="in place",
        code="""
def forward(self, x, c):
    shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)
    x += gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
    x += gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))
    return x
""",
    ),
    # --- DiT.forward ---
    dict(
        exercise="DiT.forward",
        name="no_class_taken_for_the_last",
        says="means no class",
        code="""
def forward(self, x_t, t, label):
    check_picture(x_t, t, self.picture)
    label = label.clamp(max=len(self.labels.table.weight) - 2)
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="no_positions",
        says="positions are not added",
        code="""
def forward(self, x_t, t, label):
    check_picture(x_t, t, self.picture)
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size))
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="no_class",
        says="class does not reach",
        code="""
def forward(self, x_t, t, label):
    c = self.time_mlp(time_clocks(t).to(x_t.dtype))
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="no_time",
        says="time does not reach",
        code="""
def forward(self, x_t, t, label):
    c = self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="final_without_the_class",
        says="final gets the time alone",
        code="""
def forward(self, x_t, t, label):
    time = self.time_mlp(time_clocks(t).to(x_t.dtype))
    c = time + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, time), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="clocks_of_lesson_2",
        says="lesson 2's timestep_embedding",
        code="""
def forward(self, x_t, t, label):
    c = self.time_mlp(timestep_embedding(t, 256).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="time_mlp_forgotten",
        says="send them through time_mlp",
        code="""
def forward(self, x_t, t, label):
    height, width = x_t.shape[2:]
    c = time_clocks(t) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, height, width)
""",
    ),
    dict(
        exercise="DiT.forward",
        name="clocks_forgotten",
        says=r"numbers that time_clocks\(t\) makes",
        code="""
def forward(self, x_t, t, label):
    height, width = x_t.shape[2:]
    c = self.time_mlp(t) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, height, width)
""",
    ),
    dict(
        exercise="DiT.forward",
        name="time_as_one_number",
        says=r"numbers that time_clocks\(t\) makes",
        code="""
def forward(self, x_t, t, label):
    height, width = x_t.shape[2:]
    c = self.time_mlp(t[:, None].float()) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, height, width)
""",
    ),
    dict(
        exercise="DiT.forward",
        name="height_twice",
        says="height and width in pixels",
        code="""
def forward(self, x_t, t, label):
    height, width = x_t.shape[2:]
    c = self.time_mlp(time_clocks(t)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, height, height)
""",
    ),
    dict(
        exercise="DiT.forward",
        name="height_and_width_exchanged",
        says="Height and width",
        code="""
def forward(self, x_t, t, label):
    width, height = x_t.shape[2:]
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, height, width)
""",
    ),
    dict(
        exercise="DiT.forward",
        name="blocks_side_by_side",
        says="patches of the beginning",
        code="""
def forward(self, x_t, t, label):
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    patches = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(patches, c)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="positions_on_pixels",
        says="after patch_in",
        code="""
def forward(self, x_t, t, label):
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size) + self.positions[:, :5])
    for block in self.blocks:
        x = block(x, c)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[2:])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="a_list_comes_back",
        says="picture|shape",
        code="""
def forward(self, x_t, t, label):
    c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)
    x = self.patch_in(patchify(x_t, self.patch_size)) + self.positions
    for block in self.blocks:
        x = block(x, c)
    return self.final(x, c)
""",
    ),
    # --- JointAttentionBlock ---
    dict(
        exercise="JointAttentionBlock",
        name="words_first",
        says="sequence has the words first",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qw, qx), (kw, kx), (vw, vx)))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    seen_w, seen_x = seen.split([length, n], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="heads_merged_before_take",
        says="puts them side by side itself",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    seen_x, seen_w = rearrange(seen, "b h n d -> b n (h d)").split([n, length], dim=1)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="cut_as_if_words_first",
        says="wrong place|words.{0,20}first",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    seen_w, seen_x = seen.split([length, n], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="mask_ignored",
        says="context_mask is not used",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    seen = F.scaled_dot_product_attention(query, key, value)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="mask_inverted",
        says="inverted, as by ~context_mask",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    mask = None if context_mask is None else joint_mask(~context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="whole_mask_inverted",
        says="inverted, as by ~mask",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    mask = None if context_mask is None else ~joint_mask(context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="patches_masked",
        says="hides the patches",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    mask = None
    if context_mask is not None:
        mask = F.pad(context_mask, (n, 0), value=False)[:, None, None, :]
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="mask_with_words_first",
        says="mask has its words first",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    mask = None
    if context_mask is not None:
        mask = F.pad(context_mask, (0, n), value=True)[:, None, None, :]
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="mask_of_the_words_alone",
        says="N . L tokens",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    mask = None if context_mask is None else context_mask[:, None, None, :]
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="only_cross_attention",
        says="neither at their own kind",
        code="""
def forward(self, x, context, c, context_mask=None):
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    seen_x = F.scaled_dot_product_attention(qx, kw, vw, attn_mask=mask)
    seen_w = F.scaled_dot_product_attention(qw, kx, vx)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="rests_exchanged",
        says="patches take the words' rest",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_w = self.patches.offer(x, c)
    qw, kw, vw, rest_x = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    mask = joint_mask(context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="words_come_back_as_they_were",
        says="as they were",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    mask = joint_mask(context_mask, n)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else context
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="words_do_not_look_at_patches",
        says="words do not look at the patches",
        code="""
def forward(self, x, context, c, context_mask=None):
    n = x.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    key, value = torch.cat([kx, kw], dim=2), torch.cat([vx, vw], dim=2)
    seen_x = F.scaled_dot_product_attention(qx, key, value, attn_mask=joint_mask(context_mask, n))
    mask = None if context_mask is None else context_mask[:, None, None, :]
    seen_w = F.scaled_dot_product_attention(qw, kw, vw, attn_mask=mask)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="one_stream_twice",
        says="share one stream",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, context_pre_only, qk_norm) if context_pre_only else self.patches
""",
    ),
    _joint(
        "mask_on_the_askers",
        "those who look",
        "    seen = F.",
        "    mask = None if mask is None else mask.mT\n    seen = F.",
    ),
    _joint("cut_behind_the_words", "cut in the wrong place", "([n, length]", "([length, n]"),
    _joint("cut_into_many", "more than two parts", "([n, length]", "(length"),
    _joint("values_words_first", "values are joined words first", "[vx, vw]", "[vw, vx]"),
    _joint(
        "words_take_the_patches_rest", "words take the patches' rest", "w, rest_w)", "w, rest_x)"
    ),
    dict(
        exercise="JointAttentionBlock",
        name="one_stream_for_all",
        says="does not belong|need a tensor called",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)

def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    query, key, value, rest = self.patches.offer(torch.cat([x, context], dim=1), c)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    both = self.patches.take(torch.cat([x, context], dim=1), seen, rest)
    return both[:, :n], None if self.context_pre_only else both[:, n:]
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="patches_end_too",
        says="patches|need a tensor",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, ends=context_pre_only, qk_norm=qk_norm)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="words_never_end",
        says="ends=context_pre_only",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.patches = Stream(dim, num_heads, qk_norm=qk_norm)
    self.words = Stream(dim, num_heads, qk_norm=qk_norm)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="pre_only_forgotten",
        says="return None",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    seen_x, seen_w = seen.split([n, length], dim=2)
    return self.patches.take(x, seen_x, rest_x), self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="joined_along_the_heads",
        says="axis 2",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=1) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    seen_x, seen_w = seen.split([n, length], dim=1)
    x = self.patches.take(x, seen_x, rest_x)
    return x, None if self.context_pre_only else self.words.take(context, seen_w, rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="words_returned_first",
        says="wrong order",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    query, key, value = (torch.cat(pair, dim=2) for pair in ((qx, qw), (kx, kw), (vx, vw)))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    seen_x, seen_w = seen.split([n, length], dim=2)
    x = self.patches.take(x, seen_x, rest_x)
    return None if self.context_pre_only else self.words.take(context, seen_w, rest_w), x
""",
    ),
]

RIGHT = [
    # --- patchify ---
    dict(
        exercise="patchify",
        name="permute",
        code="""
def patchify(x, patch_size):
    b, c, h, w = x.shape
    p = patch_size
    x = x.reshape(b, c, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // p) * (w // p), p * p * c)
""",
    ),
    dict(
        exercise="patchify",
        name="unfold",
        code="""
def patchify(x, patch_size):
    if x.shape[2] % patch_size or x.shape[3] % patch_size:
        raise ValueError("whole patches only")
    columns = F.unfold(x, patch_size, stride=patch_size)
    b, c = x.shape[:2]
    columns = columns.reshape(b, c, patch_size ** 2, -1)
    return columns.permute(0, 3, 2, 1).flatten(2)
""",
    ),
    dict(
        exercise="patchify",
        name="loops",
        code="""
def patchify(x, patch_size):
    p = patch_size
    b, c, h, w = x.shape
    assert h % p == 0 and w % p == 0
    found = []
    for i in range(0, h, p):
        for j in range(0, w, p):
            found.append(x[:, :, i : i + p, j : j + p].permute(0, 2, 3, 1).reshape(b, -1))
    return torch.stack(found, dim=1)
""",
    ),
    # --- unpatchify ---
    dict(
        exercise="unpatchify",
        name="permute",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    rows, columns = height // p, width // p
    x = patches.reshape(patches.shape[0], rows, columns, p, p, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(x.shape[0], -1, height, width)
""",
    ),
    dict(
        exercise="unpatchify",
        name="einsum_as_facebook",
        code="""
def unpatchify(patches, patch_size, height, width):
    p = patch_size
    h, w = height // p, width // p
    c = patches.shape[-1] // (p * p)
    x = patches.reshape(-1, h, w, p, p, c)
    x = torch.einsum("nhwpqc->nchpwq", x)
    return x.reshape(-1, c, h * p, w * p)
""",
    ),
    dict(
        exercise="unpatchify",
        name="loops",
        code="""
def unpatchify(patches, patch_size, height, width):
    p, b = patch_size, len(patches)
    pieces = patches.unflatten(2, (p, p, -1)).permute(0, 1, 4, 2, 3)
    columns = width // p
    rows = [
        torch.cat(list(pieces[:, i * columns : (i + 1) * columns].unbind(1)), dim=3)
        for i in range(height // p)
    ]
    return torch.cat(rows, dim=2)
""",
    ),
    # --- sincos_position_embedding_2d ---
    dict(
        exercise="sincos_position_embedding_2d",
        name="meshgrid",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.cat([clocks(x.flatten(), dim // 2), clocks(y.flatten(), dim // 2)], dim=1)
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="float64_by_hand",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    quarter = dim // 4
    omega = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    rows = []
    for y in range(height):
        for x in range(width):
            rows.append(torch.cat([torch.sin(x * omega), torch.cos(x * omega),
                                   torch.sin(y * omega), torch.cos(y * omega)]))
    return torch.stack(rows).float()
""",
    ),
    dict(
        exercise="sincos_position_embedding_2d",
        name="division_and_rest",
        code="""
def sincos_position_embedding_2d(dim, height, width):
    number = torch.arange(height * width)
    return torch.cat([clocks(number % width, dim // 2), clocks(number // width, dim // 2)], -1)
""",
    ),
    # --- modulate ---
    dict(
        exercise="modulate",
        name="unsqueeze",
        code="""
def modulate(x, shift, scale):
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)
""",
    ),
    dict(
        exercise="modulate",
        name="einsum",
        code="""
def modulate(x, shift, scale):
    return torch.einsum("bnd,bd->bnd", x, 1 + scale) + rearrange(shift, "b d -> b 1 d")
""",
    ),
    dict(
        exercise="modulate",
        name="x_plus_x_times_scale",
        code="""
def modulate(x, shift, scale):
    changed = x.clone()
    changed += x * scale[:, None, :]
    changed += shift[:, None, :]
    return changed
""",
    ),
    # --- DiTBlock ---
    dict(
        exercise="DiTBlock",
        name="zeros_by_hand",
        code="""
def __init__(self, dim, num_heads, norm_eps=1e-6):
    super().__init__()
    self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
    self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=norm_eps)
    self.attn = SelfAttention(dim, num_heads)
    self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))
    self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim, bias=True))
    nn.init.constant_(self.modulation[-1].weight, 0)
    nn.init.constant_(self.modulation[-1].bias, 0)

def forward(self, x, c):
    m = self.modulation(c).unflatten(-1, (6, -1))
    seen = self.attn(modulate(self.norm1(x), m[:, 0], m[:, 1]))
    x = x + m[:, 2].unsqueeze(1) * seen
    thought = self.mlp(modulate(self.norm2(x), m[:, 3], m[:, 4]))
    return x + m[:, 5].unsqueeze(1) * thought
""",
    ),
    dict(
        exercise="DiTBlock",
        name="slices",
        code="""
def forward(self, x, c):
    d = x.shape[-1]
    said = self.modulation(c)
    shift1, scale1, gate1 = said[:, :d], said[:, d : 2 * d], said[:, 2 * d : 3 * d]
    shift2, scale2, gate2 = said[:, 3 * d : 4 * d], said[:, 4 * d : 5 * d], said[:, 5 * d :]
    h = x + torch.einsum("bd,bnd->bnd", gate1, self.attn(modulate(self.norm1(x), shift1, scale1)))
    return h + torch.einsum("bd,bnd->bnd", gate2, self.mlp(modulate(self.norm2(h), shift2, scale2)))
""",
    ),
    dict(
        exercise="DiTBlock",
        name="a_helper_method",
        code="""
def half(self, x, layer, norm, wishes):
    shift, scale, gate = wishes
    return x + gate[:, None] * layer(modulate(norm(x), shift, scale))

def forward(self, x, c):
    wishes = self.modulation(c).chunk(6, dim=1)
    x = self.half(x, self.attn, self.norm1, wishes[:3])
    return self.half(x, self.mlp, self.norm2, wishes[3:])
""",
    ),
    # --- DiT.forward ---
    dict(
        exercise="DiT.forward",
        name="in_steps",
        code="""
def forward(self, x_t, t, label):
    b, _, h, w = x_t.shape
    time = self.time_mlp(time_clocks(t))
    c = self.labels(label) + time
    tokens = patchify(x_t, self.patch_size)
    tokens = self.patch_in(tokens)
    tokens = tokens + self.positions.unsqueeze(0).expand(b, -1, -1)
    for i in range(len(self.blocks)):
        tokens = self.blocks[i](tokens, c)
    tokens = self.final(tokens, c)
    return unpatchify(tokens, self.patch_size, height=h, width=w)
""",
    ),
    dict(
        exercise="DiT.forward",
        name="keywords",
        code="""
def forward(self, x_t, t, label, on_block=None):
    c = self.time_mlp(time_clocks(t).type_as(x_t)) + self.labels(label)
    x = self.patch_in(patchify(x=x_t, patch_size=self.patch_size))
    x += self.positions
    for block in self.blocks:
        x = block(x=x, c=c)
        if on_block is not None:
            on_block(x)
    x = self.final(x=x, c=c)
    return unpatchify(x, patch_size=self.patch_size, height=x_t.shape[2], width=x_t.shape[3])
""",
    ),
    dict(
        exercise="DiT.forward",
        name="reduce",
        code="""
from functools import reduce

def forward(self, x_t, t, label):
    check_picture(x_t, t, self.picture)
    c = sum((self.time_mlp(time_clocks(t)), self.labels(label)))
    start = self.positions[None] + self.patch_in(patchify(x_t, self.patch_size))
    x = reduce(lambda tokens, block: block(tokens, c), self.blocks, start)
    return unpatchify(self.final(x, c), self.patch_size, *x_t.shape[-2:])
""",
    ),
    # --- JointAttentionBlock ---
    dict(
        exercise="JointAttentionBlock",
        name="slices",
        code="""
def forward(self, x, context, c, context_mask=None):
    n = x.shape[1]
    *of_x, rest_x = self.patches.offer(x, c)
    *of_w, rest_w = self.words.offer(context, c)
    query, key, value = [torch.cat(pair, dim=-2) for pair in zip(of_x, of_w)]
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, n))
    new_x = self.patches.take(x, seen[:, :, :n], rest_x)
    if self.context_pre_only:
        return new_x, None
    return new_x, self.words.take(context, seen[:, :, n:], rest_w)
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="softmax_by_hand",
        code="""
def forward(self, x, context, c, context_mask=None):
    n, length = x.shape[1], context.shape[1]
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    q, k, v = torch.cat((qx, qw), 2), torch.cat((kx, kw), 2), torch.cat((vx, vw), 2)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if context_mask is not None:
        seen_by_all = torch.ones(len(x), n, dtype=torch.bool)
        mask = torch.cat([seen_by_all, context_mask], dim=1)[:, None, None, :]
        scores = scores.masked_fill(~mask, float("-inf"))
    seen = scores.softmax(-1) @ v
    seen_x, seen_w = seen[:, :, :n], seen[:, :, n:]
    out = self.patches.take(x, seen_x, rest_x)
    words = None
    if not self.context_pre_only:
        words = self.words.take(context, seen_w, rest_w)
    return out, words
""",
    ),
    dict(
        exercise="JointAttentionBlock",
        name="two_attentions_over_all",
        code="""
def __init__(self, dim, num_heads, context_pre_only=False, qk_norm=False):
    super().__init__()
    self.context_pre_only = context_pre_only
    self.words = Stream(dim, num_heads, context_pre_only, qk_norm)
    self.patches = Stream(dim, num_heads, False, qk_norm)

def forward(self, x, context, c, context_mask=None):
    qx, kx, vx, rest_x = self.patches.offer(x, c)
    qw, kw, vw, rest_w = self.words.offer(context, c)
    key, value = torch.cat([kw, kx], dim=2), torch.cat([vw, vx], dim=2)
    mask = None
    if context_mask is not None:
        mask = F.pad(context_mask, (0, x.shape[1]), value=True)[:, None, None]
    attend = F.scaled_dot_product_attention
    x = self.patches.take(x, attend(qx, key, value, attn_mask=mask), rest_x)
    if self.context_pre_only:
        return x, None
    return x, self.words.take(context, attend(qw, key, value, attn_mask=mask), rest_w)
""",
    ),
]
