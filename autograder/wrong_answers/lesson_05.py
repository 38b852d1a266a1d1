"""Lesson 5: mistakes that people make, and right answers written in other ways."""

GUIDED = """
def guided_prediction(
    model, x_t, t, condition, null, guidance_scale=3.0, guidance_rescale=0.0
):
    scale = torch.as_tensor(guidance_scale, dtype=x_t.dtype, device=x_t.device)
    if (scale == 1).all():
        return model(x_t, t, condition)
    scale = scale.reshape(-1, *[1] * (x_t.ndim - 1))
    nothing = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([nothing, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + scale * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
"""


def _guided(name, says, old, new):
    """The usual way of writing guided_prediction with one place changed."""
    assert GUIDED.count(old) == 1, old
    return dict(exercise="guided_prediction", name=name, says=says, code=GUIDED.replace(old, new))


SAMPLED = """
@torch.no_grad()
def sample_guided(
    model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
    guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon", on_step=None,
):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
"""


def _sampled(name, says, old, new):
    """The usual way of writing sample_guided with one place changed."""
    assert SAMPLED.count(old) == 1, old
    return dict(exercise="sample_guided", name=name, says=says, code=SAMPLED.replace(old, new))


DROPPED = """
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(len(condition), generator=generator) < cond_drop_prob
    drop = drop.reshape(-1, *[1] * (condition.ndim - 1))
    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)
"""


def _dropped(name, says, old, new):
    """The usual way of writing drop_condition with one place changed."""
    assert DROPPED.count(old) == 1, old
    return dict(exercise="drop_condition", name=name, says=says, code=DROPPED.replace(old, new))


RESCALED = """
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    dims = tuple(range(1, guided.ndim))
    factor = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guidance_rescale * guided * factor + (1 - guidance_rescale) * guided
"""


def _rescaled(name, says, old, new):
    """The usual way of writing rescale_guidance with one place changed."""
    assert RESCALED.count(old) == 1, old
    return dict(exercise="rescale_guidance", name=name, says=says, code=RESCALED.replace(old, new))


TABLE = """
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.table = nn.Embedding(num_classes + 1, dim)

    def forward(self, label):
        return self.table(label)
"""


def _table(name, says, old, new):
    """The usual way of writing LabelEmbedding with one place changed."""
    assert TABLE.count(old) == 1, old
    return dict(exercise="LabelEmbedding", name=name, says=says, code=TABLE.replace(old, new))


WRONG = [
    _guided("off_if_any_scale_is_one", "switched off for the whole batch", ".all()", ".any()"),
    _guided("every_second_row", "every second row", "both.chunk(2)", "both[::2], both[1::2]"),
    dict(
        exercise="guided_prediction",
        name="scales_not_reshaped_and_always_rescaled",
        says=r"a single number passes.*scale",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    scale = torch.as_tensor(guidance_scale, dtype=x_t.dtype)
    if (scale == 1).all():
        return model(x_t, t, condition)
    nothing = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([nothing, condition]))
    uncond, cond = both.chunk(2)
    return rescale_guidance(uncond + scale * (cond - uncond), cond, guidance_rescale)
""",
    ),
    dict(
        exercise="sample_guided",
        name="clip_where_eta_stands",
        says="sixth argument is eta",
        code="""
@torch.no_grad()
def sample_guided(
    model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
    guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon", on_step=None,
):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="shape_of_std_lost",
        says="keepdim=True",
        code="""
def rescale_guidance(guided, cond, guidance_rescale):
    dims = tuple(range(1, guided.ndim))
    rescaled = guided * cond.std(dims) / guided.std(dims)
    return guidance_rescale * rescaled + (1 - guidance_rescale) * guided
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="pictures_only",
        says="may be points",
        code="""
def rescale_guidance(guided, cond, guidance_rescale):
    dims = (1, 2, 3)
    factor = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guidance_rescale * guided * factor + (1 - guidance_rescale) * guided
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="added_to_the_steps",
        says="as the third argument",
        code="""
def forward(self, x_t, t, label):
    return self.denoiser(x_t, t + self.label_embedding(label))
""",
    ),
    dict(
        exercise="drop_condition",
        name="mask_of_one_dimension",
        says=r"in the shape \(B, 1, 1\)",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(len(condition), generator=generator) < cond_drop_prob
    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)
""",
    ),
    dict(
        exercise="sample_guided",
        name="plain_numbers_for_steps",
        says="one step a sample",
        code="""
@torch.no_grad()
def sample_guided(
    model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
    guidance_rescale=0.0, prediction_type="epsilon", clip_sample=True, on_step=None,
):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t = torch.full((len(x),), step, device=x.device)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, step, step_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    # --- LabelEmbedding
    dict(
        exercise="LabelEmbedding",
        name="no_row_for_null",
        says="one row more",
        also_breaks=["ClassUNet.forward"],
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.table = nn.Embedding(num_classes, dim)

    def forward(self, label):
        return self.table(label)
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="null_is_padding",
        says="null class gets no gradient.*no padding_idx",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.null = num_classes
        self.table = nn.Embedding(num_classes + 1, dim, padding_idx=num_classes)

    def forward(self, label):
        return self.table(label)
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="null_frozen",
        says="null class gets no gradient",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.num_classes = num_classes
        self.table = nn.Embedding(num_classes, dim)
        self.register_buffer("nothing", torch.randn(dim))

    def forward(self, label):
        vectors = self.table(label.clamp(max=self.num_classes - 1))
        return torch.where((label == self.num_classes)[:, None], self.nothing, vectors)
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="null_shares_the_last_class",
        says="same vector",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.table = nn.Embedding(num_classes, dim)

    def forward(self, label):
        return self.table(label.clamp(max=self.table.num_embeddings - 1))
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="label_as_quantity",
        says="on one line",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.project = nn.Linear(1, dim)

    def forward(self, label):
        return self.project(label.float()[:, None])
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="table_not_a_parameter",
        says="neither be trained nor saved",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.table = torch.randn(num_classes + 1, dim)

    def forward(self, label):
        return self.table[label]
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="forgets_super",
        says="super",
        also_breaks=["ClassUNet.forward"],
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        self.table = nn.Embedding(num_classes + 1, dim)

    def forward(self, label):
        return self.table(label)
""",
    ),
    # --- ClassUNet.forward
    dict(
        exercise="ClassUNet.forward",
        name="label_forgotten",
        says="third, the label's vector",
        code="""
def forward(self, x_t, t, label):
    return self.denoiser(x_t, t)
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="bare_label",
        says="not the bare label",
        code="""
def forward(self, x_t, t, label):
    return self.denoiser(x_t, t, label)
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="null_becomes_a_class",
        says="Labels were changed",
        code="""
def forward(self, x_t, t, label):
    return self.denoiser(x_t, t, self.label_embedding(label.clamp(max=self.null - 1)))
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="first_label_for_all",
        says="first sample's label",
        code="""
def forward(self, x_t, t, label):
    return self.denoiser(x_t, t, self.label_embedding(label[:1]).expand(len(label), -1))
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="no_return",
        says="None|return",
        code="""
def forward(self, x_t, t, label):
    self.denoiser(x_t, t, self.label_embedding(label))
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="label_added_to_t",
        says="third, the label's vector|just as they came",
        code="""
def forward(self, x_t, t, label):
    return self.denoiser(x_t, t + label)
""",
    ),
    # --- drop_condition
    dict(
        exercise="drop_condition",
        name="single_numbers",
        says="single numbers",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(condition.shape, generator=generator) < cond_drop_prob
    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)
""",
    ),
    dict(
        exercise="drop_condition",
        name="single_words",
        says="single words",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(condition.shape[:2], generator=generator) < cond_drop_prob
    if condition.ndim > 2:
        drop = drop[..., None]
    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)
""",
    ),
    dict(
        exercise="drop_condition",
        name="kept_share_inverted",
        says="changed places",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(len(condition), generator=generator) > cond_drop_prob
    drop = drop.reshape(-1, *[1] * (condition.ndim - 1))
    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)
""",
    ),
    dict(
        exercise="drop_condition",
        name="one_die_for_the_batch",
        says="not one for the batch",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    if torch.rand(1, generator=generator) < cond_drop_prob:
        null = torch.as_tensor(null, dtype=condition.dtype)
        return null.expand_as(condition).clone()
    return condition.clone()
""",
    ),
    dict(
        exercise="drop_condition",
        name="in_place",
        says="caller's own labels",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(len(condition), generator=generator) < cond_drop_prob
    condition[drop] = torch.as_tensor(null, dtype=condition.dtype)
    return condition
""",
    ),
    dict(
        exercise="drop_condition",
        name="null_is_zero",
        says="became zeros",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    keep = torch.rand(len(condition), generator=generator) >= cond_drop_prob
    keep = keep.reshape(-1, *[1] * (condition.ndim - 1))
    return condition * keep
""",
    ),
    dict(
        exercise="drop_condition",
        name="null_is_minus_one",
        says="neither 0 .* nor -1",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(len(condition), generator=generator) < cond_drop_prob
    if condition.ndim == 1:
        return torch.where(drop, -1, condition)
    return torch.where(drop[:, None, None], null, condition)
""",
    ),
    dict(
        exercise="drop_condition",
        name="labels_become_floats",
        says="must stay torch.int64",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(len(condition), generator=generator) < cond_drop_prob
    drop = drop.reshape(-1, *[1] * (condition.ndim - 1)).float()
    return drop * null + (1 - drop) * condition
""",
    ),
    dict(
        exercise="drop_condition",
        name="always_the_same_number",
        says="exactly the same number",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    many = round(cond_drop_prob * len(condition))
    dropped = torch.randperm(len(condition), generator=generator)[:many]
    result = condition.clone()
    result[dropped] = torch.as_tensor(null, dtype=condition.dtype)
    return result
""",
    ),
    dict(
        exercise="drop_condition",
        name="generator_ignored",
        says="hand `generator`",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.rand(len(condition)) < cond_drop_prob
    drop = drop.reshape(-1, *[1] * (condition.ndim - 1))
    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)
""",
    ),
    dict(
        exercise="drop_condition",
        name="gaussian_dice",
        says="too large",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    drop = torch.randn(len(condition), generator=generator) < cond_drop_prob
    drop = drop.reshape(-1, *[1] * (condition.ndim - 1))
    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)
""",
    ),
    # --- rescale_guidance
    dict(
        exercise="rescale_guidance",
        name="std_over_the_batch",
        says="whole batch",
        also_breaks=["guided_prediction", "sample_guided"],
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    rescaled = guided * cond.std() / guided.std()
    return guidance_rescale * rescaled + (1 - guidance_rescale) * guided
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="std_per_channel",
        says="each channel",
        also_breaks=["guided_prediction", "sample_guided"],
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    dims = tuple(range(2, guided.ndim))
    factor = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guidance_rescale * guided * factor + (1 - guidance_rescale) * guided
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="mixture_inverted",
        says="wrong way round",
        also_breaks=["guided_prediction", "sample_guided"],
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    dims = tuple(range(1, guided.ndim))
    factor = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return (1 - guidance_rescale) * guided * factor + guidance_rescale * guided
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="quotient_upside_down",
        says="upside down",
        also_breaks=["guided_prediction", "sample_guided"],
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    dims = tuple(range(1, guided.ndim))
    factor = guided.std(dims, keepdim=True) / cond.std(dims, keepdim=True)
    return guidance_rescale * guided * factor + (1 - guidance_rescale) * guided
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="mean_taken_away",
        says="mean was taken away",
        also_breaks=["guided_prediction", "sample_guided"],
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    dims = tuple(range(1, guided.ndim))
    mean = guided.mean(dims, keepdim=True)
    factor = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    rescaled = mean + (guided - mean) * factor
    return guidance_rescale * rescaled + (1 - guidance_rescale) * guided
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="variance",
        says="variance was taken",
        also_breaks=["guided_prediction", "sample_guided"],
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    dims = tuple(range(1, guided.ndim))
    factor = cond.var(dims, keepdim=True) / guided.var(dims, keepdim=True)
    return guidance_rescale * guided * factor + (1 - guidance_rescale) * guided
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="mixed_with_cond",
        says="mixed with cond",
        also_breaks=["guided_prediction", "sample_guided"],
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    dims = tuple(range(1, guided.ndim))
    factor = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guidance_rescale * guided * factor + (1 - guidance_rescale) * cond
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="pictures_only",
        says="any shape",
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    factor = (cond.flatten(1).std(1) / guided.flatten(1).std(1)).reshape(-1, 1, 1, 1)
    return guidance_rescale * guided * factor + (1 - guidance_rescale) * guided
""",
    ),
    # --- guided_prediction
    dict(
        exercise="guided_prediction",
        name="one_plus_w",
        says="other convention",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    w = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (w == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    uncond, cond = model(x_t.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([null, condition])).chunk(2)
    guided = (1 + w) * cond - w * uncond
    if guidance_rescale:
        guided = rescale_guidance(guided, cond, guidance_rescale)
    return guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="scale_swapped",
        says="changed places",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    guided = cond + s * (uncond - cond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="halves_swapped",
        says="order in which they were joined",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    cond, uncond = both.chunk(2)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="two_calls",
        says="called twice",
        also_breaks=[],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    cond = model(x_t, t, condition)
    if (s == 1).all():
        return cond
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    uncond = model(x_t, t, null)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="pays_at_scale_one",
        says="guidance is off",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="chunk_along_channels",
        says="along the channels",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2, dim=1)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="steps_interleaved",
        says="do not belong together",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(
        torch.cat([x_t, x_t]), t.repeat_interleave(2), torch.cat([null, condition])
    )
    uncond, cond = both.chunk(2)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="steps_not_doubled",
        says="Double all three",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    if guidance_scale == 1:
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), t, torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + guidance_scale * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="null_is_class_zero",
        says="told the null",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    nothing = torch.zeros_like(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([nothing, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="numbers_only",
        says="guidance_scale.*(tensor|\\(B,\\)|each)",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    if isinstance(guidance_scale, float | int) and guidance_scale == 1:
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + guidance_scale * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="scale_fits_only_pictures",
        says="as many dimensions as x_t has",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    scale = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, 1, 1, 1)
    if (scale == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + scale * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="first_scale_for_all",
        says="first sample's scale",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = float(torch.as_tensor(guidance_scale).flatten()[0])
    if s == 1:
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="labels_only",
        says="sentences",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    nothing = torch.full((len(condition),), null, dtype=condition.dtype)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([nothing, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="rescale_forgotten",
        says="guidance_rescale has no effect",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    return uncond + s * (cond - uncond)
""",
    ),
    dict(
        exercise="guided_prediction",
        name="rescaled_to_uncond",
        says="contrast of uncond",
        also_breaks=["sample_guided"],
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    s = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (s == 1).all():
        return model(x_t, t, condition)
    null = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + s * (cond - uncond)
    return rescale_guidance(guided, uncond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    # --- sample_guided
    dict(
        exercise="sample_guided",
        name="asks_the_model_itself",
        says="never asked for the null",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        noise_pred = model(x, t, condition)
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="on_step_with_a_row_of_steps",
        says="plain number of the step",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(t, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="on_step_with_the_unconverted_answer",
        says="is always given noise",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, answer)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="types_exchanged",
        says="stands last",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, "epsilon", prediction_type)
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="one_number_for_t",
        says="torch.full",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = step, step_prev
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="rescale_not_handed_on",
        says="guidance_rescale does not reach",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        noise_pred = guided_prediction(model, x, t, condition, null, guidance_scale)
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="scale_not_handed_on",
        says="default scale|guidance_scale",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        noise_pred = guided_prediction(model, x, t, condition, null, 3.0, guidance_rescale)
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="clip_not_handed_on",
        says="clip_sample does not reach",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        noise_pred = guided_prediction(
            model, x, t, condition, null, guidance_scale, guidance_rescale
        )
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="guides_clipped_guesses",
        says="clipped before guidance",
        code="""
from t2i.schedules import gather


@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)

        def clipped(x_t, t, condition):
            noise_pred = model(x_t, t, condition)
            if not clip_sample:
                return noise_pred
            bar = gather(alphas_cumprod, t, like=x_t)
            guess = ((x_t - (1 - bar).sqrt() * noise_pred) / bar.sqrt()).clamp(-1, 1)
            return (x_t - bar.sqrt() * guess) / (1 - bar).sqrt()

        noise_pred = guided_prediction(
            clipped, x, t, condition, null, guidance_scale, guidance_rescale
        )
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="always_takes_it_for_noise",
        says="prediction_type",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        noise_pred = guided_prediction(
            model, x, t, condition, null, guidance_scale, guidance_rescale
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="last_step_missing",
        says="exactly the given timesteps",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in zip(timesteps[:-1].tolist(), timesteps[1:].tolist()):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        noise_pred = guided_prediction(
            model, x, t, condition, null, guidance_scale, guidance_rescale
        )
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="always_one_step_down",
        says="goes from t to t - 1",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step in timesteps.tolist():
        t = torch.full((len(x),), step)
        noise_pred = guided_prediction(
            model, x, t, condition, null, guidance_scale, guidance_rescale
        )
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t - 1, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="on_step_before_the_step",
        says="call it after the step",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        noise_pred = guided_prediction(
            model, x, t, condition, null, guidance_scale, guidance_rescale
        )
        if on_step is not None:
            on_step(step, x, noise_pred)
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="converts_x_and_not_the_prediction",
        says="takes the prediction first, then x",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(x, answer, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="tells_on_step_the_new_x_twice",
        says="gets the noise last",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, step_prev in pairs(timesteps, alphas_cumprod):
        t, t_prev = torch.full((len(x),), step), torch.full((len(x),), step_prev)
        answer = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        noise_pred = convert_prediction(answer, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, noise_pred, t, t_prev, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, x)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="every_training_step",
        says="exactly the given timesteps",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step in reversed(range(len(alphas_cumprod))):
        t = torch.full((len(x),), step)
        noise_pred = guided_prediction(
            model, x, t, condition, null, guidance_scale, guidance_rescale
        )
        noise_pred = convert_prediction(
            noise_pred, x, t, alphas_cumprod, prediction_type, "epsilon"
        )
        x = ddim_step(x, noise_pred, t, t - 1, alphas_cumprod, clip_sample=clip_sample)
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
]

WRONG += [
    _table("labels_from_one", "numbered from 0", "(label)", "(label + 1)"),
    _table("eleven_rows", "no 10 or 11", "num_classes + 1", "11"),
    _table("batch_of_one_squeezed", r"no squeeze\(\)", "(label)\n", "(label).squeeze()\n"),
    _table("rows_detached", "would never learn", "(label)\n", "(label).detach()\n"),
    dict(
        exercise="LabelEmbedding",
        name="a_small_net_on_the_number",
        says="learnt numbers.*no quantity",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, label):
        return self.net(label.float()[:, None])
""",
    ),
    _dropped("share_written_down", "argument has no effect", "cond_drop_prob\n", "0.1\n"),
    _dropped("choice_comes_too", "yours: tuple", "condition)\n", "condition), drop\n"),
    _dropped(
        "sentences_become_doubles",
        "Sentences must stay torch.float32",
        "    return torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)",
        "    chosen = torch.where(drop, torch.as_tensor(null, dtype=condition.dtype), condition)\n"
        "    return chosen.double() if chosen.is_floating_point() else chosen",
    ),
    _dropped(
        "sentences_in_place",
        "caller's own sentences",
        "    drop = drop.reshape",
        "    if condition.ndim > 1:\n"
        "        condition[drop] = torch.as_tensor(null, dtype=condition.dtype)\n"
        "        return condition\n"
        "    drop = drop.reshape",
    ),
    _dropped(
        "generator_for_labels_only",
        "sentences with the same generator.*hand `generator`",
        "generator=generator)",
        "generator=generator if condition.ndim == 1 else None)",
    ),
    _dropped(
        "null_of_a_sentence_must_be_a_tensor",
        "null may be a number",
        "    return",
        "    null = null.expand_as(condition) if condition.ndim > 1 else null\n    return",
    ),
    _dropped(
        "sentences_and_labels_only",
        r"conditions \(B, D\)",
        "drop.reshape(-1, *[1] * (condition.ndim - 1))",
        "drop if condition.ndim == 1 else drop[:, None, None]",
    ),
    _rescaled(
        "only_shrinks", "no clamp", "    return", "    factor = factor.clamp(max=1)\n    return"
    ),
    _rescaled(
        "guided_in_place",
        "changes guided in place",
        "    return guidance_rescale * guided * factor + (1 - guidance_rescale) * guided",
        "    guided *= guidance_rescale * factor + 1 - guidance_rescale\n    return guided",
    ),
    _rescaled(
        "in_place_before_the_mixture",
        "guided was changed in place",
        "guided * factor",
        "guided.mul_(factor)",
    ),
    _rescaled(
        "comes_back_double",
        "keep guided's dtype",
        "    return",
        "    guided = guided.double()\n    return",
    ),
    _guided("off_below_one", "Below scale 1 your answer is cond", "scale == 1", "scale <= 1"),
    _guided(
        "off_at_zero_too",
        "as if guidance were off",
        "    if (scale == 1).all():",
        "    if not scale.any() or (scale == 1).all():",
    ),
    _guided("computes_in_double", "keeps x_t's dtype", "dtype=x_t.dtype", "dtype=torch.float64"),
    _guided(
        "doubled_as_pictures",
        r"fits pictures and points",
        "torch.cat([x_t, x_t])",
        "x_t.repeat(2, 1, 1, 1)",
    ),
    _guided("default_strength", "default strength", "cond, guidance_rescale)", "cond)"),
    _guided(
        "cond_changed_in_place",
        "Was cond changed in place",
        "guided = uncond + scale * (cond - uncond)",
        "cond -= uncond\n    guided = uncond + scale * cond",
    ),
    _guided(
        "uncond_rescaled",
        "uncond was rescaled before",
        "    guided = uncond + scale * (cond - uncond)\n"
        "    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided",
        "    if guidance_rescale:\n"
        "        uncond = rescale_guidance(uncond, cond, guidance_rescale)\n"
        "    return uncond + scale * (cond - uncond)",
    ),
    _sampled("gradients_kept", "belongs above the def", "@torch.no_grad()\n", ""),
    _sampled(
        "start_overwritten", "changes x_T in place", "        x = ddim", "        x[:] = ddim"
    ),
    _sampled("start_in_double", "start with x = x_T as it is", "x = x_T\n", "x = x_T.double()\n"),
    _sampled("never_clips_by_default", "line of the def", "clip_sample=True", "clip_sample=False"),
    _sampled("asks_about_the_start", "shown x_T at every step", "(model, x, t", "(model, x_T, t"),
    _sampled("steps_from_the_start", "begins at x_T", "ddim_step(x, ", "ddim_step(x_T, "),
    _sampled(
        "ends_at_step_zero",
        "last step goes to step 0",
        "pairs(timesteps, alphas_cumprod)",
        "zip(timesteps.tolist(), timesteps.tolist()[1:] + [0])",
    ),
    _sampled(
        "one_scale_for_all",
        "one element tensors|a Tensor with 3 elements",
        "null, guidance_scale, ",
        "null, float(guidance_scale), ",
    ),
]

RIGHT = [
    dict(
        exercise="LabelEmbedding",
        name="null_begins_at_zero_and_learns",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.table = nn.Embedding(num_classes + 1, dim)
        with torch.no_grad():
            self.table.weight[num_classes] = 0.0

    def forward(self, label):
        return self.table(label)
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="parameter",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.vectors = nn.Parameter(0.02 * torch.randn(num_classes + 1, dim))

    def forward(self, label):
        return self.vectors[label]
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="one_hot",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes, dim):
        super().__init__()
        self.rows = num_classes + 1
        self.to_vector = nn.Linear(self.rows, dim, bias=False)

    def forward(self, label):
        return self.to_vector(nn.functional.one_hot(label, self.rows).float())
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="null_apart",
        code="""
class LabelEmbedding(nn.Module):
    def __init__(self, num_classes: int, dim: int, std: float = 1.0):
        super().__init__()
        self.num_classes = num_classes
        self.classes = nn.Embedding(num_classes, dim)
        self.nothing = nn.Parameter(std * torch.randn(dim))

    def forward(self, label):
        is_null = label == self.num_classes
        vectors = self.classes(label.masked_fill(is_null, 0))
        return torch.where(is_null[:, None], self.nothing, vectors)
""",
    ),
    dict(
        exercise="LabelEmbedding",
        name="subclass",
        code="""
class LabelEmbedding(nn.Embedding):
    def __init__(self, num_classes, dim):
        super().__init__(num_classes + 1, dim)
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="named",
        code="""
def forward(self, x_t, t, label):
    vector = self.label_embedding(label)
    noise_pred = self.denoiser(x_t, t, vector)
    return noise_pred
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="extra_argument",
        code="""
def forward(self, x, steps, label, scale=1.0):
    return self.denoiser(x, steps, scale * self.label_embedding(label))
""",
    ),
    dict(
        exercise="ClassUNet.forward",
        name="keyword",
        code="""
def forward(self, x_t, t, label):
    return self.denoiser.forward(x_t, t, cond=self.label_embedding.forward(label))
""",
    ),
    dict(
        exercise="drop_condition",
        name="loop",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    kept = condition.clone()
    for i in range(len(kept)):
        if torch.rand((), generator=generator) < cond_drop_prob:
            kept[i] = null
    return kept
""",
    ),
    dict(
        exercise="drop_condition",
        name="bernoulli_and_index",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    chances = torch.full((condition.shape[0],), float(cond_drop_prob))
    drop = torch.bernoulli(chances, generator=generator).bool()
    result = condition.clone()
    result[drop] = torch.as_tensor(null, dtype=condition.dtype)
    return result
""",
    ),
    dict(
        exercise="drop_condition",
        name="keep_mask",
        code="""
def drop_condition(y, empty, p, rng=None):
    keep = torch.rand(y.shape[0], generator=rng, dtype=torch.float64) >= p
    while keep.ndim < y.ndim:
        keep = keep.unsqueeze(-1)
    return torch.where(keep, y, torch.as_tensor(empty, dtype=y.dtype, device=y.device))
""",
    ),
    dict(
        exercise="drop_condition",
        name="list_and_stack",
        code="""
def drop_condition(condition, null, cond_drop_prob, generator=None):
    dice = torch.rand(len(condition), generator=generator).tolist()
    empty = torch.as_tensor(null, dtype=condition.dtype).expand(condition.shape[1:])
    return torch.stack([empty if die < cond_drop_prob else c for die, c in zip(dice, condition)])
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="flatten",
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    sizes = cond.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    factor = 1 + guidance_rescale * (sizes - 1)
    return guided * factor.reshape(-1, *[1] * (guided.ndim - 1))
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="lerp_in_float64",
        code="""
def rescale_guidance(guided, cond, guidance_rescale=0.7):
    g, c = guided.double(), cond.double()
    dims = list(range(1, g.ndim))
    rescaled = g * c.std(dims, keepdim=True) / g.std(dims, keepdim=True)
    return torch.lerp(g, rescaled, guidance_rescale).to(guided.dtype)
""",
    ),
    dict(
        exercise="rescale_guidance",
        name="loop",
        code="""
def spread(x):
    return (x - x.mean()).square().mean().sqrt()


def rescale_guidance(guided, cond, guidance_rescale=0.7):
    out = torch.empty_like(guided)
    for i in range(len(guided)):
        tamed = guided[i] * spread(cond[i]) / spread(guided[i])
        out[i] = guidance_rescale * tamed + (1 - guidance_rescale) * guided[i]
    return out
""",
    ),
    dict(
        exercise="guided_prediction",
        name="cond_first",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    if isinstance(guidance_scale, torch.Tensor):
        s = guidance_scale.to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    else:
        s = float(guidance_scale)
        if s == 1:
            return model(x_t, t, condition)
    nothing = torch.zeros_like(condition) + torch.as_tensor(null, dtype=condition.dtype)
    both = model(
        x_t.repeat(2, *[1] * (x_t.ndim - 1)), t.repeat(2), torch.cat([condition, nothing])
    )
    cond, uncond = both[: len(x_t)], both[len(x_t) :]
    guided = s * cond + (1 - s) * uncond
    if guidance_rescale > 0:
        guided = rescale_guidance(guided, cond, guidance_rescale)
    return guided
""",
    ),
    dict(
        exercise="guided_prediction",
        name="interleaved",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    scale = torch.as_tensor(guidance_scale, dtype=x_t.dtype).expand(len(x_t))
    if bool((scale == 1).all()):
        return model(x_t, t, condition)
    doubled = condition.repeat_interleave(2, dim=0)
    doubled[::2] = torch.as_tensor(null, dtype=condition.dtype)
    both = model(x_t.repeat_interleave(2, dim=0), t.repeat_interleave(2), doubled)
    uncond, cond = both[::2], both[1::2]
    guided = uncond + torch.einsum("b,b...->b...", scale, cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale)
""",
    ),
    dict(
        exercise="guided_prediction",
        name="always_rescales",
        code="""
def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    scale = torch.as_tensor(guidance_scale, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    if (scale == 1).all():
        return model(x_t, t, condition)
    nothing = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    both = model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([nothing, condition]))
    uncond, cond = both.chunk(2)
    guided = uncond + scale * (cond - uncond)
    return rescale_guidance(guided, cond, guidance_rescale)
""",
    ),
    dict(
        exercise="guided_prediction",
        name="lerp",
        code="""
def both_answers(model, x_t, t, condition, null):
    nothing = torch.as_tensor(null, dtype=condition.dtype).expand_as(condition)
    return model(torch.cat([x_t] * 2), torch.cat([t] * 2), torch.cat([nothing, condition])).chunk(2)


def guided_prediction(model, x_t, t, condition, null, guidance_scale, guidance_rescale=0.0):
    scale = torch.as_tensor(guidance_scale).to(x_t)
    if scale.eq(1).all():
        return model(x_t, t, condition)
    uncond, cond = both_answers(model, x_t, t, condition, null)
    guided = torch.lerp(uncond, cond, scale.reshape(-1, *[1] * (x_t.ndim - 1)))
    return rescale_guidance(guided, cond, guidance_rescale) if guidance_rescale else guided
""",
    ),
    dict(
        exercise="sample_guided",
        name="zip",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T.clone()
    steps = timesteps.tolist()
    for now, after in zip(steps, steps[1:] + [-1]):
        t = torch.tensor([now] * len(x))
        eps = guided_prediction(model, x, t, condition, null, guidance_scale, guidance_rescale)
        eps = convert_prediction(eps, x, t, alphas_cumprod, prediction_type, "epsilon")
        x = ddim_step(x, eps, t, torch.full_like(t, after), alphas_cumprod, clip_sample=clip_sample)
        if on_step:
            on_step(now, x, eps)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="ddim_by_hand",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    x = x_T
    for step, after in pairs(timesteps, alphas_cumprod):
        t = torch.full((len(x),), step)
        bar = alphas_cumprod[step]
        bar_after = alphas_cumprod[after] if after >= 0 else torch.ones_like(bar)
        said = guided_prediction(
            model, x, t, condition, null, guidance_scale, guidance_rescale
        )
        guess = convert_prediction(said, x, t, alphas_cumprod, prediction_type, "sample")
        noise_pred = (x - bar.sqrt() * guess) / (1 - bar).sqrt()
        if clip_sample:
            guess = guess.clamp(-1, 1)
        direction = (x - bar.sqrt() * guess) / (1 - bar).sqrt()
        x = bar_after.sqrt() * guess + (1 - bar_after).sqrt() * direction
        if on_step is not None:
            on_step(step, x, noise_pred)
    return x
""",
    ),
    dict(
        exercise="sample_guided",
        name="through_sample_ddim",
        code="""
@torch.no_grad()
def sample_guided(model, x_T, condition, null, alphas_cumprod, timesteps, guidance_scale=3.0,
                  guidance_rescale=0.0, clip_sample=True, prediction_type="epsilon",
                  on_step=None):
    def told(x_t, t):
        return guided_prediction(
            model, x_t, t, condition, null, guidance_scale, guidance_rescale
        )

    return sample_ddim(
        told, x_T, alphas_cumprod, timesteps, clip_sample=clip_sample,
        prediction_type=prediction_type, on_step=on_step,
    )
""",
    ),
]
