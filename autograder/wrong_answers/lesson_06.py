"""Lesson 6: mistakes that people make, and right answers in other styles.

Each wrong answer loses the points of its exercise, and the message matches `says`. Each right
answer scores 100. `code` takes the place of the reference; methods replace those of the class.
"""

import functools

ATTENDING = """
def forward(self, x, context=None, context_mask=None):
    context = x if context is None else context
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
"""
BLOCK = """
def forward(self, x, context, context_mask=None):
    first = x + self.attn1(self.norm1(x))
    second = first + self.attn2(self.norm2(first), context, context_mask)
    return second + self.ff(self.norm3(second))
"""
PICTURE = """
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
"""
GATED = """
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * F.gelu(gate)
"""
LOOKUP = """
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
"""
USUAL = {
    "scaled_dot_product_attention": LOOKUP,
    "CrossAttention.forward": ATTENDING,
    "GEGLU": GATED,
    "TransformerBlock.forward": BLOCK,
    "SpatialTransformer.forward": PICTURE,
}


def _changed(exercise, name, says, old, new):
    """The usual way of writing an exercise with one place changed."""
    assert USUAL[exercise].count(old) == 1, old
    return dict(exercise=exercise, name=name, says=says, code=USUAL[exercise].replace(old, new))


WRONG = [
    # --- scaled_dot_product_attention ---
    dict(
        exercise="scaled_dot_product_attention",
        name="no_scale",
        says="scale is missing",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="scaled_by_d",
        says="square root",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / query.shape[-1]
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="scaled_by_the_number_of_words",
        says="number of words",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-2])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="multiplied_by_the_root",
        says="multiplied by",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) * math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="softmax_over_the_places",
        says="wrong axis",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-2)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="softmax_over_axis_1",
        says="wrong axis",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="no_softmax",
        says="softmax is missing",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_inverted",
        says="inverted",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="scaled_by_the_channels_of_a_value",
        says="the query's channels",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(value.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_inverted_before_the_softmax",
        says="inverted before the softmax",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_inverted_before_the_softmax_with_infinity",
        says="inverted before the softmax",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(mask, float("-inf"))
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_after_softmax",
        says="after the softmax only",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights * mask
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_ignored",
        says="mask is not used",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = scores.softmax(dim=-1)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_added_as_float",
        says="added to the scores",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores + mask.float()
    weights = torch.softmax(scores, -1)
    if mask is not None and not mask.any(-1).all():
        weights = torch.where(mask.any(-1, keepdim=True), weights, torch.zeros_like(weights))
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_times_scores",
        says="ordinary score",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores * mask
    weights = torch.softmax(scores, -1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="nan_without_words",
        says="NaN",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="even_without_words",
        says="should be 0",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = scores.softmax(dim=-1)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_hopeless_for_small_scores",
        says="hopeless",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e4)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="mask_not_hopeless",
        says="hopeless",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -100.0)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="home_made_exponential",
        says="overflows",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    e = scores.exp()
    if mask is not None:
        e = e * mask
    weights = e / e.sum(-1, keepdim=True).clamp(min=1e-12)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="output_only",
        says="two things",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="in_the_wrong_order",
        says="wrong order",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights, weights @ value
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="three_axes_only",
        says="last two axes|count axes",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="query_scaled_in_place",
        says="in place",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    query /= math.sqrt(query.shape[-1])
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights
""",
    ),
    # --- split_heads ---
    dict(
        exercise="split_heads",
        name="plain_reshape",
        says="plain reshape",
        code="""
def split_heads(x, num_heads):
    b, n, c = x.shape
    return x.reshape(b, num_heads, n, c // num_heads)
""",
    ),
    dict(
        exercise="split_heads",
        name="not_exchanged",
        says="exchanged",
        code="""
def split_heads(x, num_heads):
    b, n, c = x.shape
    return x.view(b, n, num_heads, c // num_heads)
""",
    ),
    dict(
        exercise="split_heads",
        name="interleaved",
        says="dealt out",
        code="""
def split_heads(x, num_heads):
    return rearrange(x, "b n (d heads) -> b heads n d", heads=num_heads)
""",
    ),
    dict(
        exercise="split_heads",
        name="last_axes_turned",
        says="changed places",
        code="""
def split_heads(x, num_heads):
    return rearrange(x, "b n (heads d) -> b heads d n", heads=num_heads)
""",
    ),
    dict(
        exercise="split_heads",
        name="batch_and_heads_in_one",
        says="four axes",
        code="""
def split_heads(x, num_heads):
    return rearrange(x, "b n (heads d) -> (b heads) n d", heads=num_heads)
""",
    ),
    dict(
        exercise="split_heads",
        name="heads_first",
        says="before the batch",
        code="""
def split_heads(x, num_heads):
    return rearrange(x, "b n (heads d) -> heads b n d", heads=num_heads)
""",
    ),
    dict(
        exercise="split_heads",
        name="loses_channels",
        says="without complaint",
        code="""
def split_heads(x, num_heads):
    d = x.shape[-1] // num_heads
    return torch.stack([x[..., i * d : (i + 1) * d] for i in range(num_heads)], dim=1)
""",
    ),
    dict(
        exercise="split_heads",
        name="fewer_heads",
        says="fewer heads than asked for",
        code="""
def split_heads(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)
""",
    ),
    # --- merge_heads ---
    dict(
        exercise="merge_heads",
        name="plain_reshape",
        says="plain reshape",
        code="""
def merge_heads(x):
    b, h, n, d = x.shape
    return x.reshape(b, n, h * d)
""",
    ),
    dict(
        exercise="merge_heads",
        name="view_after_transpose",
        says="reshape or rearrange",
        code="""
def merge_heads(x):
    b, h, n, d = x.shape
    return x.transpose(1, 2).view(b, n, h * d)
""",
    ),
    dict(
        exercise="merge_heads",
        name="interleaved",
        says="shuffled into one another",
        code="""
def merge_heads(x):
    return rearrange(x, "b heads n d -> b n (d heads)")
""",
    ),
    dict(
        exercise="merge_heads",
        name="averaged",
        says="averaged",
        code="""
def merge_heads(x):
    return x.mean(dim=1)
""",
    ),
    dict(
        exercise="merge_heads",
        name="added_up",
        says="added up",
        code="""
def merge_heads(x):
    return x.sum(dim=1)
""",
    ),
    dict(
        exercise="merge_heads",
        name="channels_before_places",
        says="changed places",
        code="""
def merge_heads(x):
    return rearrange(x, "b heads n d -> b (heads d) n")
""",
    ),
    # --- CrossAttention.forward ---
    dict(
        exercise="CrossAttention.forward",
        name="mask_inverted",
        says="inverted",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else ~context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="both_results_merged",
        says="returns two things",
        code="""
def forward(self, x, context=None, context_mask=None):
    context = x if context is None else context
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    return self.to_out(merge_heads(scaled_dot_product_attention(query, key, value, mask)))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="mask_ignored",
        says="not used",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="mask_as_float",
        says="added to the scores",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :].float()
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="key_and_value_from_x",
        says="context is not used",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(x), self.num_heads)
    value = split_heads(self.to_v(x), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="value_from_x",
        says="value is read from x",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(x), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="query_from_context",
        says="picture x that asks|query is read",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(context), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="no_to_out",
        says="to_out, is missing",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return merge_heads(looked)
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="residual_added",
        says="x is added",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return x + self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="mask_with_one_new_axis",
        says="lined up with the heads",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="mask_of_the_wrong_shape",
        says=r"context_mask\[:, None, None",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="mask_axes_confused",
        says=r"context_mask\[:, None, None|changes|broadcast|fits",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[None, None]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="context_none_forgotten",
        says="x looks at itself",
        code="""
def forward(self, x, context=None, context_mask=None):
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    return self.to_out(merge_heads(F.scaled_dot_product_attention(query, key, value, mask)))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="heads_not_split",
        says="heads are not split",
        code="""
def forward(self, x, context=None, context_mask=None):
    context = x if context is None else context
    mask = None if context_mask is None else context_mask[:, None, :]
    q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
    return self.to_out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="split_by_reshape",
        says="split by a plain reshape",
        code="""
def forward(self, x, context=None, context_mask=None):
    context = x if context is None else context
    b, n, _ = x.shape
    length, d = context.shape[1], self.to_q.out_features // self.num_heads
    q = self.to_q(x).reshape(b, self.num_heads, n, d)
    k = self.to_k(context).reshape(b, self.num_heads, length, d)
    v = self.to_v(context).reshape(b, self.num_heads, length, d)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return self.to_out(out.transpose(1, 2).reshape(b, n, -1))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="merged_by_reshape",
        says="come back by a plain reshape",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(looked.reshape(*x.shape[:2], -1))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="softmax_wrong_axis",
        says="wrong axis",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-2) @ value
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="no_scale",
        says="scale is missing",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = torch.softmax(query @ key.transpose(-1, -2), dim=-1) @ value
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="scale_of_all_channels",
        says="root of all channels",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, mask, scale=self.to_q.out_features**-0.5)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="mask_after_softmax",
        says="after the softmax",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = (torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, -1) * (1 if mask is None else mask)) @ value
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="two_results_not_unpacked",
        says="tuple|Query from x",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = scaled_dot_product_attention(query, key, value, mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="no_gradient",
        says="No gradient",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked.detach()))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="split_by_the_size_of_a_head",
        says="second argument of split_heads",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    head_dim = self.to_q.out_features // self.num_heads
    query = split_heads(self.to_q(x), head_dim)
    key = split_heads(self.to_k(context), head_dim)
    value = split_heads(self.to_v(context), head_dim)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="masked_words_zeroed",
        says="still get a share",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    if context_mask is not None:
        context = context * context_mask[:, :, None]
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    looked = F.scaled_dot_product_attention(query, key, value)
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="context_or_x",
        says="context is None",
        code="""
def forward(self, x, context=None, context_mask=None):
    context = context or x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.to_out(merge_heads(looked))
""",
    ),
    # --- GEGLU ---
    dict(
        exercise="GEGLU",
        name="gate_and_content_swapped",
        says="changed places",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        gate, content = self.proj(x).chunk(2, dim=-1)
        return content * F.gelu(gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="silu",
        says="SiLU",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * F.silu(gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="tanh_gelu",
        says="tanh",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * F.gelu(gate, approximate="tanh")
""",
    ),
    dict(
        exercise="GEGLU",
        name="quick_gelu",
        says="quick approximation",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * gate * torch.sigmoid(1.702 * gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="sigmoid",
        says="sigmoid",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * torch.sigmoid(gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="no_activation",
        says="activation is missing",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * gate
""",
    ),
    dict(
        exercise="GEGLU",
        name="both_through_gelu",
        says="both halves",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = F.gelu(self.proj(x)).chunk(2, dim=-1)
        return content * gate
""",
    ),
    dict(
        exercise="GEGLU",
        name="added",
        says="are added",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content + F.gelu(gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="alternating",
        says="alternately",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        both = self.proj(x)
        return both[..., 0::2] * F.gelu(both[..., 1::2])
""",
    ),
    dict(
        exercise="GEGLU",
        name="no_bias",
        says="proj.bias",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out, bias=False)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * F.gelu(gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="proj_too_small",
        says="another size",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * F.gelu(gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="wrong_axis",
        says="last axis|chunk",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=1)
        return content * F.gelu(gate)
""",
    ),
    dict(
        exercise="GEGLU",
        name="no_super",
        says="super",
        also_breaks=["TransformerBlock.forward", "SpatialTransformer.forward"],
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * F.gelu(gate)
""",
    ),
    # --- TransformerBlock.forward ---
    dict(
        exercise="TransformerBlock.forward",
        name="no_first_sum",
        says="first sum",
        code="""
def forward(self, x, context, context_mask=None):
    x = self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x), context, context_mask)
    return x + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="no_last_sum",
        says="third sum",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x), context, context_mask)
    return self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="norm_of_the_answer",
        says="stands behind its layer",
        code="""
def forward(self, x, context=None, context_mask=None):
    x = x + self.norm1(self.attn1(x))
    x = x + self.norm2(self.attn2(x, context, context_mask))
    return x + self.norm3(self.ff(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="post_norm",
        says="after the sums",
        code="""
def forward(self, x, context, context_mask=None):
    x = self.norm1(x + self.attn1(x))
    x = self.norm2(x + self.attn2(x, context, context_mask))
    return self.norm3(x + self.ff(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="sum_with_the_normed",
        says="must be x as it was",
        code="""
def forward(self, x, context, context_mask=None):
    h = self.norm1(x)
    x = h + self.attn1(h)
    h = self.norm2(x)
    x = h + self.attn2(h, context, context_mask)
    h = self.norm3(x)
    return h + self.ff(h)
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="words_first",
        says="words come first",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn2(self.norm2(x), context, context_mask)
    x = x + self.attn1(self.norm1(x))
    return x + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="mask_lost",
        says="not handed on",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x), context)
    return x + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="mask_inverted",
        says="inverted",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    mask = None if context_mask is None else ~context_mask
    x = x + self.attn2(self.norm2(x), context, mask)
    return x + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="context_forgotten",
        says="did not get the context",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x))
    return x + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="context_in_both",
        says="gets x alone",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x), context, context_mask)
    x = x + self.attn2(self.norm2(x), context, context_mask)
    return x + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="side_by_side",
        says="x of the beginning",
        code="""
def forward(self, x, context, context_mask=None):
    a = self.attn1(self.norm1(x))
    b = self.attn2(self.norm2(x), context, context_mask)
    return x + a + b + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="norm1_three_times",
        says="norm of its own",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm1(x), context, context_mask)
    return x + self.ff(self.norm1(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="norms_exchanged",
        says="changed places",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm2(x))
    x = x + self.attn2(self.norm1(x), context, context_mask)
    return x + self.ff(self.norm3(x))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="no_norm3",
        says="norm3 is not used",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x), context, context_mask)
    return x + self.ff(x)
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="no_ff",
        says="ff is left out",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x), context, context_mask)
    return x
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="in_place",
        says="in place",
        code="""
def forward(self, x, context, context_mask=None):
    x += self.attn1(self.norm1(x))
    x += self.attn2(self.norm2(x), context, context_mask)
    x += self.ff(self.norm3(x))
    return x
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="clone_and_in_place",
        says="in place",
        code="""
def forward(self, x, context, context_mask=None):
    x = x.clone()
    x += self.attn1(self.norm1(x))
    x += self.attn2(self.norm2(x), context, context_mask)
    x += self.ff(self.norm3(x))
    return x
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="mask_in_both",
        says="neither context nor context_mask",
        code="""
def forward(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x), context_mask=context_mask)
    x = x + self.attn2(self.norm2(x), context, context_mask)
    return x + self.ff(self.norm3(x))
""",
    ),
    # --- SpatialTransformer.forward ---
    dict(
        exercise="SpatialTransformer.forward",
        name="no_residual",
        says="not added at the end",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="normed_residual",
        says="it must be x as it came in",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    x = self.norm(x)
    h = self.proj_in(x)
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="no_norm",
        says="norm is not used",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(x)
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="no_proj_out",
        says="left out|at non-singleton|channels",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + h
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="list_by_reshape",
        says="plain reshape",
        code="""
def forward(self, x, context, context_mask=None):
    b, c, height, width = x.shape
    h = self.proj_in(self.norm(x))
    h = h.reshape(b, height * width, -1)
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="picture_by_reshape",
        says="on the way back",
        code="""
def forward(self, x, context, context_mask=None):
    b, c, height, width = x.shape
    h = self.proj_in(self.norm(x))
    h = h.flatten(2).transpose(1, 2)
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = h.reshape(b, -1, height, width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="both_ways_by_reshape",
        says="both ways.*exchange the axes",
        code="""
def forward(self, x, context, context_mask=None):
    b, c, height, width = x.shape
    h = self.proj_in(self.norm(x))
    h = h.reshape(b, height * width, -1)
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = h.reshape(b, -1, height, width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="outer_channels_on_the_way_back",
        says="num_heads · head_dim channels",
        code="""
def forward(self, x, context, context_mask=None):
    b, c, height, width = x.shape
    h = self.proj_in(self.norm(x))
    h = h.flatten(2).transpose(1, 2)
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = h.transpose(1, 2).reshape(b, c, height, width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="outer_channels_for_einops",
        says="num_heads · head_dim channels",
        code="""
def forward(self, x, context, context_mask=None):
    b, c, height, width = x.shape
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width, c=c)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="sides_exchanged",
        says="square pictures only",
        code="""
def forward(self, x, context, context_mask=None):
    width, height = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (w h) c -> b c h w", h=width, w=height)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="flattened_by_columns",
        says="by columns",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (w h) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="first_block_only",
        says="only the first block",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    h = self.blocks[0](h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="last_block_only",
        says="list of the beginning",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        out = block(h, context, context_mask)
    h = out
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="mask_lost",
        says="not handed on",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="answer_dropped",
        says="not used",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="other_eps",
        says="eps",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = F.group_norm(x, self.norm.num_groups, self.norm.weight, self.norm.bias)
    h = self.proj_in(h)
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="added_in_place",
        says="in place",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    x += self.proj_out(h)
    return x
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="summed_twice",
        says="added again after the blocks",
        code="""
def forward(self, x, context, context_mask=None):
    height, width = x.shape[2:]
    h = self.proj_in(self.norm(x))
    h = rearrange(h, "b c h w -> b (h w) c")
    start = h
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = h + start
    h = rearrange(h, "b (h w) c -> b c h w", h=height, w=width)
    return x + self.proj_out(h)
""",
    ),
]

_look, _attend, _gate, _block, _picture = (functools.partial(_changed, each) for each in USUAL)
WRONG += [
    _look(
        "mask_with_another_axis",
        "give it no further axes",
        "    scores = query",
        "    mask = None if mask is None else mask.unsqueeze(1)\n    scores = query",
    ),
    _look(
        "values_of_masked_words_zeroed_in_place",
        "changes value in place",
        "    return",
        "    if mask is not None and value.ndim == mask.ndim == 3 and mask.shape[1] == 1:\n"
        "        value.masked_fill_(~mask.transpose(-1, -2), 0)\n"
        "    return",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="what_is_left_is_stretched",
        says="stretch what is left|after the softmax only",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    weights = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(dim=-1)
    if mask is not None:
        weights = weights * mask
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
    return weights @ value, weights
""",
    ),
    dict(
        exercise="split_heads",
        name="no_way_back",
        says="no gradient at all",
        code="""
def split_heads(x, num_heads):
    return rearrange(x.detach(), "b n (heads d) -> b heads n d", heads=num_heads)
""",
    ),
    dict(
        exercise="merge_heads",
        name="no_way_back",
        says="no gradient at all",
        code="""
def merge_heads(x):
    return torch.from_numpy(x.detach().numpy().swapaxes(1, 2).copy()).flatten(2)
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="weights_zeroed_in_place",
        says="here or in your own attention.*not masked_fill_",
        code="""
def forward(self, x, context=None, context_mask=None):
    context = x if context is None else context
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if context_mask is not None:
        away = ~context_mask[:, None, None, :]
        scores = scores.masked_fill(away, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if context_mask is not None:
        weights.masked_fill_(away, 0)
    return self.to_out(merge_heads(weights @ value))
""",
    ),
    _attend(
        "words_detached",
        "No gradient reaches context",
        "else context\n",
        "else context.detach()\n",
    ),
    _attend(
        "keys_kept_for_the_next_call",
        "keep none of them in self",
        "    value =",
        "    old = getattr(self, 'old', None)\n"
        "    key = self.old = key if old is None or old.shape != key.shape else old\n"
        "    value =",
    ),
    _attend(
        "words_zeroed_in_place",
        "changes context in place",
        "    query =",
        "    if context_mask is not None:\n"
        "        context.masked_fill_(~context_mask[..., None], 0)\n"
        "    query =",
    ),
    _attend(
        "one_mask_for_all",
        "one common mask",
        "context_mask[:, None, None, :]",
        "context_mask.any(0)[None, None, None, :]",
    ),
    _attend(
        "query_split_otherwise",
        "shapes of query, key and value",
        "(self.to_q(x), self.num_heads)",
        "(self.to_q(x), 8)",
    ),
    _attend(
        "to_out_before_the_merge",
        "to_out comes last",
        "self.to_out(merge_heads(looked))",
        "merge_heads(self.to_out(looked))",
    ),
    _gate("gate_detached", "part of the way back is cut", "(gate)", "(gate.detach())"),
    _gate(
        "without_gradients",
        "no gradient at all",
        "    def forward",
        "    @torch.no_grad()\n    def forward",
    ),
    _gate(
        "content_in_place",
        "instead of [*]=",
        "return content * F.gelu(gate)",
        "content *= F.gelu(gate)\n        return content",
    ),
    _block("words_read_the_start", "attn2 reads norm2", "norm2(first)", "norm2(x)"),
    _block("ff_reads_the_start", "ff reads norm3", "norm3(second)", "norm3(x)"),
    _block("ff_reads_too_early", "before attn2 was added", "norm3(second)", "norm3(first)"),
    _block("sum_from_the_start", "last sum begins", "return second +", "return x +"),
    _block("norm2_twice", "norm2 stands in the third", "norm3", "norm2"),
    _block("attn1_twice", "attn1 stands in the second", "attn2", "attn1"),
    _block("sum_detached", "part of the way back is cut", "first = x +", "first = x.detach() +"),
    _block("half_of_ff", "was handed something else|layers run", "self.ff(", "self.ff[0]("),
    _block(
        "words_in_place",
        "changes context in place",
        "    first =",
        "    if context_mask is not None:\n"
        "        context.mul_(context_mask[..., None])\n"
        "    first =",
    ),
    _picture(
        "list_turned", "was handed something else", "b c h w -> b (h w) c", "b c h w -> b c (h w)"
    ),
    _picture(
        "words_in_place",
        "changes context in place",
        "    height, width",
        "    if context_mask is not None:\n        context[~context_mask] = 0\n    height, width",
    ),
]

RIGHT = [
    # --- scaled_dot_product_attention ---
    dict(
        exercise="scaled_dot_product_attention",
        name="einsum",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    d = query.size(-1)
    s = torch.einsum("...nd,...ld->...nl", query, key) * d**-0.5
    if mask is not None:
        s = s.masked_fill(torch.logical_not(mask), -torch.inf)
    w = torch.nan_to_num(F.softmax(s, dim=-1))
    return torch.einsum("...nl,...le->...ne", w, value), w
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="scale_first_and_where",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    query = query / query.shape[-1] ** 0.5
    scores = torch.matmul(query, key.mT)
    if mask is None:
        mask = torch.ones((), dtype=torch.bool)
    lowest = torch.full_like(scores, torch.finfo(scores.dtype).min)
    weights = torch.softmax(torch.where(mask, scores, lowest), -1)
    weights = torch.where(mask, weights, torch.zeros_like(weights))
    return torch.matmul(weights, value), weights
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="by_hand_in_double",
        code="""
def scaled_dot_product_attention(query, key, value, mask=None):
    dtype = query.dtype
    q, k, v = query.double(), key.double(), value.double()
    scores = q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1])
    keep = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand_as(scores)
    scores = scores - scores.masked_fill(~keep, -1e300).amax(-1, keepdim=True)
    e = torch.where(keep, scores, torch.full_like(scores, -torch.inf)).exp()
    e = torch.where(keep, e, torch.zeros_like(e))
    w = e / e.sum(-1, keepdim=True).clamp(min=1e-30)
    return [(w @ v).to(dtype), w.to(dtype)]
""",
    ),
    dict(
        exercise="scaled_dot_product_attention",
        name="helper_and_extra_argument",
        code="""
def hide(scores, mask, number):
    return scores if mask is None else scores.masked_fill(~mask, number)


def scaled_dot_product_attention(query, key, value, mask=None, scale=None):
    scale = scale or query.shape[-1] ** -0.5
    scores = hide(scale * (query @ key.transpose(-1, -2)), mask, torch.finfo(query.dtype).min)
    weights = hide(scores.softmax(-1), mask, 0.0)
    output = weights @ value
    return output, weights
""",
    ),
    # --- split_heads ---
    dict(
        exercise="split_heads",
        name="view_transpose",
        code="""
def split_heads(x, num_heads):
    b, n, c = x.shape
    assert c % num_heads == 0
    return x.view(b, n, num_heads, c // num_heads).transpose(1, 2)
""",
    ),
    dict(
        exercise="split_heads",
        name="loop",
        code="""
def split_heads(x, num_heads):
    if x.shape[-1] % num_heads:
        raise ValueError("channels must be a multiple of num_heads")
    d = x.shape[-1] // num_heads
    parts = []
    for head in range(num_heads):
        parts.append(x[:, :, head * d : (head + 1) * d])
    return torch.stack(parts, dim=1)
""",
    ),
    dict(
        exercise="split_heads",
        name="unflatten_movedim",
        code="""
def split_heads(x, num_heads):
    return x.unflatten(-1, (num_heads, x.shape[-1] // num_heads)).movedim(2, 1).contiguous()
""",
    ),
    # --- merge_heads ---
    dict(
        exercise="merge_heads",
        name="transpose_reshape",
        code="""
def merge_heads(x):
    b, h, n, d = x.shape
    return x.transpose(1, 2).reshape(b, n, h * d)
""",
    ),
    dict(
        exercise="merge_heads",
        name="cat",
        code="""
def merge_heads(x):
    return torch.cat(list(x.unbind(dim=1)), dim=-1)
""",
    ),
    dict(
        exercise="merge_heads",
        name="contiguous_view",
        code="""
def merge_heads(x):
    b, h, n, d = x.size()
    x = x.permute(0, 2, 1, 3).contiguous()
    return x.view(b, n, h * d)
""",
    ),
    # --- CrossAttention.forward ---
    dict(
        exercise="CrossAttention.forward",
        name="own_attention",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    query = split_heads(self.to_q(x), self.num_heads)
    key = split_heads(self.to_k(context), self.num_heads)
    value = split_heads(self.to_v(context), self.num_heads)
    mask = None if context_mask is None else context_mask[:, None, None, :]
    looked = scaled_dot_product_attention(query, key, value, mask)[0]
    return self.to_out(merge_heads(looked))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="einops_throughout",
        code="""
def forward(self, x, context=None, context_mask=None):
    context = context if context is not None else x
    h = self.num_heads
    q = rearrange(self.to_q(x), "b n (h d) -> b h n d", h=h)
    k = rearrange(self.to_k(context), "b n (h d) -> b h n d", h=h)
    v = rearrange(self.to_v(context), "b n (h d) -> b h n d", h=h)
    if context_mask is not None:
        context_mask = rearrange(context_mask, "b l -> b 1 1 l")
    out = F.scaled_dot_product_attention(q, k, v, context_mask)
    return self.to_out(rearrange(out, "b h n d -> b n (h d)"))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="by_hand_a_head_at_a_time",
        code="""
def forward(self, x, context=None, context_mask=None):
    if context is None:
        context = x
    q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
    d = q.shape[-1] // self.num_heads
    found = []
    for i in range(self.num_heads):
        part = slice(i * d, (i + 1) * d)
        scores = torch.einsum("bnd,bld->bnl", q[..., part], k[..., part]) / math.sqrt(d)
        if context_mask is not None:
            hidden = ~context_mask[:, None]
            scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        weights = F.softmax(scores, -1)
        if context_mask is not None:
            weights = weights.masked_fill(hidden, 0)
        found.append(weights @ v[..., part])
    return self.to_out(torch.cat(found, -1))
""",
    ),
    dict(
        exercise="CrossAttention.forward",
        name="expanded_mask_and_batched_heads",
        code="""
def forward(self, x, context=None, context_mask=None):
    source = x if context is None else context
    b, n, _ = x.shape
    l = source.shape[1]
    q = self.to_q(x).view(b, n, self.num_heads, -1).permute(0, 2, 1, 3)
    k = self.to_k(source).view(b, l, self.num_heads, -1).permute(0, 2, 1, 3)
    v = self.to_v(source).view(b, l, self.num_heads, -1).permute(0, 2, 1, 3)
    mask = None
    if context_mask is not None:
        mask = context_mask.view(b, 1, 1, l).expand(b, self.num_heads, n, l)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return self.to_out(out.permute(0, 2, 1, 3).reshape(b, n, -1))
""",
    ),
    # --- GEGLU ---
    dict(
        exercise="GEGLU",
        name="slices",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        both = self.proj(x)
        half = both.shape[-1] // 2
        return F.gelu(both[..., half:]) * both[..., :half]
""",
    ),
    dict(
        exercise="GEGLU",
        name="by_hand",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x):
        content, gate = self.proj(x).chunk(2, dim=-1)
        return content * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
""",
    ),
    dict(
        exercise="GEGLU",
        name="module_and_split",
        code="""
class GEGLU(nn.Module):
    def __init__(self, dim_in, dim_out, bias=True):
        nn.Module.__init__(self)
        self.dim_out = dim_out
        self.proj = nn.Linear(dim_in, dim_out * 2, bias=bias)
        self.act = nn.GELU()

    def forward(self, hidden):
        a, b = self.proj(hidden).split(self.dim_out, -1)
        return a * self.act(b)
""",
    ),
    # --- TransformerBlock.forward ---
    dict(
        exercise="TransformerBlock.forward",
        name="one_variable_each",
        code="""
def forward(self, x, context, context_mask=None):
    h = self.norm1(x)
    after_self = self.attn1(h) + x
    h = self.norm2(after_self)
    after_words = self.attn2(h, context=context, context_mask=context_mask) + after_self
    return after_words + self.ff(self.norm3(after_words))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="helper_function",
        code="""
def add_to(x, found):
    return torch.add(found, x)


def forward(self, x, context, mask=None):
    x = add_to(x, self.attn1(self.norm1(x)))
    x = add_to(x, self.attn2(self.norm2(x), context, mask))
    return add_to(x, self.ff(self.norm3(x)))
""",
    ),
    dict(
        exercise="TransformerBlock.forward",
        name="loop",
        code="""
def forward(self, x, context, context_mask=None):
    steps = (
        (self.norm1, self.attn1, ()),
        (self.norm2, self.attn2, (context, context_mask)),
        (self.norm3, self.ff, ()),
    )
    for norm, layer, extra in steps:
        x = torch.add(x, layer(norm(x), *extra))
    return x
""",
    ),
    # --- SpatialTransformer.forward ---
    dict(
        exercise="SpatialTransformer.forward",
        name="torch_only",
        code="""
def forward(self, x, context, context_mask=None):
    b, c, height, width = x.shape
    residual = x
    h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = h.transpose(1, 2).reshape(b, -1, height, width)
    return self.proj_out(h) + residual
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="permute_view",
        code="""
def forward(self, x, context, context_mask=None):
    b, _, hh, ww = x.size()
    y = self.proj_in(self.norm(x))
    y = y.permute(0, 2, 3, 1).reshape(b, hh * ww, y.size(1))
    for i in range(len(self.blocks)):
        y = self.blocks[i](y, context, context_mask)
    y = y.view(b, hh, ww, -1).permute(0, 3, 1, 2).contiguous()
    return x + self.proj_out(y)
""",
    ),
    dict(
        exercise="SpatialTransformer.forward",
        name="projections_as_linear_layers",
        code="""
def forward(self, x, context, context_mask=None):
    b, c, height, width = x.shape
    h = self.norm(x).flatten(2).mT
    h = F.linear(h, self.proj_in.weight[:, :, 0, 0], self.proj_in.bias)
    for block in self.blocks:
        h = block(h, context, context_mask)
    h = F.linear(h, self.proj_out.weight[:, :, 0, 0], self.proj_out.bias)
    return x + h.mT.unflatten(2, (height, width))
""",
    ),
]
