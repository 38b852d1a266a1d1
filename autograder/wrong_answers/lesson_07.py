"""Lesson 7: mistakes that people make, and right answers in other styles.

Each wrong answer loses the points of its exercise, and the message matches `says`. Each right
answer scores 100. `code` takes the place of the reference; methods replace those of the class.
"""

WRONG = [
    dict(
        exercise="contrastive_loss",
        name="softmax_before_the_rows",
        says="cross entropy of the rows",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits.softmax(dim=1), right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="pictures_over_the_batch",
        says="pictures' vectors are normalised over",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images, texts = F.normalize(image_features, dim=0), F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="train_bpe",
        name="splits_at_spaces",
        says="parts words from signs",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in text.lower().split())
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="once_a_text",
        says="twice in one text",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in set(split_words(text)))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="argmax_of_truths",
        says="argmax wants numbers",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="scale_without_gradient",
        says="gradient reaches logit_scale",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    scale = min(math.exp(logit_scale.item()), 100)
    logits = scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="detached_scale",
        says="gradient reaches logit_scale",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().detach().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="probabilities_to_cross_entropy",
        says="takes the logits",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    table = (logit_scale.exp().clamp(max=100) * images @ texts.T).softmax(dim=-1)
    right = torch.arange(len(table), device=table.device)
    return (F.cross_entropy(table, right) + F.cross_entropy(table.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="log_of_a_softmax",
        says="not finite",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    rows, columns = logits.softmax(-1).log().diag(), logits.softmax(0).log().diag()
    return -(rows.mean() + columns.mean()) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="all_the_same_answer",
        says="row i's is number i",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images, texts = F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.ones(len(logits), dtype=torch.int64, device=logits.device).clamp(max=len(logits) - 1)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="train_bpe",
        name="words_beside_the_merges",
        says="nothing else beside it",
        code="""
def train_bpe(texts, num_merges):
    merges, words = [("l", "o")], {"low": ["lo", "w"]}
    return merges, words
""",
    ),
    # --- train_bpe ---
    dict(
        exercise="train_bpe",
        name="each_word_once",
        says="counted once",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += 1
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="ties_first_met",
        says="met first",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = pairs.most_common(1)[0][0]
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="ties_last_in_order",
        says="last one in sorted order",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="the_rarest_pair",
        says="rarest",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="plain_split",
        says="split_words",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in text.split())
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="letters_in_place_of_bytes",
        says="bytes",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: (*w[:-1], w[-1] + '</w>') for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="no_mark_at_the_end",
        says="</w>",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: tuple(p.replace('</w>', '') for p in start_pieces(w)) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="never_stops",
        says="no pair left",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="never_joined",
        says="never joined",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    pairs = Counter()
    for w in counts:
        pieces = start_pieces(w)
        for pair in zip(pieces, pieces[1:]):
            pairs[pair] += counts[w]
    best = min(pairs, key=lambda p: (-pairs[p], p)) if pairs else None
    return [best] * min(num_merges, len(pairs))
""",
    ),
    dict(
        exercise="train_bpe",
        name="one_merge_too_many",
        says="one merge too many",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) <= num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="returns_the_pieces",
        says="not the piece",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best[0] + best[1])
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="no_return",
        says="None",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(w for text in texts for w in split_words(text))
    words = {w: start_pieces(w) for w in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for w, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[w]
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        words = {w: merge_pair(pieces, best) for w, pieces in words.items()}
        merges.append(best)
""",
    ),
    # --- Tokenizer.encode ---
    dict(
        exercise="Tokenizer.encode",
        name="never_merged",
        says="never merged",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if True:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="left_to_right",
        says="from the left",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, known[0])
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="longest_first",
        says="longest|learnt last",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, max(known, key=lambda p: len(p[0] + p[1])))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="latest_first",
        says="learnt last",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, max(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="plain_split",
        says="split_words",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in text.split():
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary.get(p, -1) for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="no_start",
        says="start's number is missing",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [*numbers, self.end]
    numbers = numbers[: length - 1]
    row = [*numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="no_end",
        says="end's number is missing",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers]
    numbers = numbers[: length - 1]
    row = [self.start, *numbers]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="end_cut_off",
        says="loses its end token",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    row = [self.start, *numbers, self.end][:length]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="zeros_behind",
        says="zeros",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row + [0] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="room_for_the_end_forgotten",
        says="length - 2|length was asked|start and end count",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length]
    row = [self.start, *numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="not_filled",
        says="not filled up",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="end_behind_the_padding",
        says="last place",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while True:
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    return [self.start, *numbers] + [0] * (length - 2 - len(numbers)) + [self.end]
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="one_merge_a_word",
        says="one merge only",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        for _ in range(1):
            known = [p for p in zip(pieces, pieces[1:]) if p in self.ranks]
            if not known:
                break
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[p] for p in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    numbers = numbers[: length - 2]
    row = [self.start, *numbers, self.end]
    return row + [self.end] * (length - len(row))
""",
    ),
    # --- quick_gelu ---
    dict(
        exercise="quick_gelu",
        name="exact_gelu",
        says="exact GELU",
        code="""
def quick_gelu(x):
    return F.gelu(x)
""",
    ),
    dict(
        exercise="quick_gelu",
        name="tanh_gelu",
        says="tanh approximation",
        code="""
def quick_gelu(x):
    return F.gelu(x, approximate='tanh')
""",
    ),
    dict(
        exercise="quick_gelu",
        name="silu",
        says="1.702 is missing",
        code="""
def quick_gelu(x):
    return x * torch.sigmoid(x)
""",
    ),
    dict(
        exercise="quick_gelu",
        name="factor_outside",
        says="outside",
        code="""
def quick_gelu(x):
    return 1.702 * x * torch.sigmoid(x)
""",
    ),
    dict(
        exercise="quick_gelu",
        name="no_x",
        says="x before the sigmoid",
        code="""
def quick_gelu(x):
    return torch.sigmoid(1.702 * x)
""",
    ),
    dict(
        exercise="quick_gelu",
        name="rounded_factor",
        says="1.7;",
        code="""
def quick_gelu(x):
    return x * torch.sigmoid(1.7 * x)
""",
    ),
    dict(
        exercise="quick_gelu",
        name="sign",
        says="sign",
        code="""
def quick_gelu(x):
    return x * torch.sigmoid(-1.702 * x)
""",
    ),
    dict(
        exercise="quick_gelu",
        name="in_place",
        says="in place",
        code="""
def quick_gelu(x):
    return x.mul_(torch.sigmoid(1.702 * x))
""",
    ),
    # --- TextTransformer.forward ---
    dict(
        exercise="TextTransformer.forward",
        name="no_positions",
        says="places' vectors are missing",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens)
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="all_positions",
        says="shorter than max_length",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="no_mask",
        says="mask is missing",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="mask_ahead",
        says="wrong way round",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).triu()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="mask_inverted",
        says="inverted",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, ~mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="mask_of_numbers",
        says="bool",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="itself_forbidden",
        says="look at itself",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril(-1)
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="no_norm",
        says="last norm is missing",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = x
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="last_place",
        says="last place",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[:, -1]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="class_place",
        says="place 0",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[:, 0]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="largest_number",
        says="largest",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = tokens.argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="mean_pooled",
        says="mean of all places",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden.mean(dim=1)
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="every_row_from_every_text",
        says="Index rows and places together",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[:, end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="pooled_without_norm",
        says="before the last norm",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, x[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="pooled_alone",
        says="two things",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden[torch.arange(b, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="only_the_first_layer",
        says="first layer",
        code="""
def forward(self, tokens):
    b, n = tokens.shape
    x = self.tokens(tokens) + self.positions[:n]
    mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers[:1]:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(b, device=x.device), end]
""",
    ),
    # --- ImageEncoder.forward ---
    dict(
        exercise="ImageEncoder.forward",
        name="plain_reshape",
        says="plain reshape",
        code="""
def forward(self, images):
    patches = self.conv_in(images).reshape(len(images), -1, self.class_vector.numel())
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0])
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="class_last",
        says="behind the patches",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([patches, first], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, -1])
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="no_positions",
        says="places' vectors are missing",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1)
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0])
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="positions_before_the_class",
        says="class place gets no",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2) + self.positions[1:]
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1)
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0])
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="no_norm_in",
        says="norm_in is missing",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0])
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="norm_before_positions",
        says="after",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = self.norm_in(torch.cat([first, patches], dim=1)) + self.positions
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0])
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="no_norm_out",
        says="did not go through norm_out",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, x[:, 0]
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="mean_of_patches",
        says="mean of the patches",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 1:].mean(dim=1))
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="hidden_normed",
        says="only the pooled",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    x = self.norm_out(x)
    return x, x[:, 0]
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="columns_first",
        says="column by column",
        code="""
def forward(self, images):
    patches = self.conv_in(images).transpose(2, 3).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0])
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="results_exchanged",
        says="wrong order",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return self.norm_out(x[:, 0]), x
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="one_class_vector",
        says="as many as pictures",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector[None, None]
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0])
""",
    ),
    # --- contrastive_loss ---
    dict(
        exercise="contrastive_loss",
        name="normalised_all_as_one",
        says="as if they were one",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = image_features / image_features.norm()
    texts = text_features / text_features.norm()
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="not_normalised",
        says="length 1",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = image_features
    texts = text_features
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="normalised_over_the_batch",
        says="wrong axis",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=0)
    texts = F.normalize(text_features, dim=0)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="no_exp",
        says="logarithm",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="no_limit",
        says="no limit",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp() * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="no_scale",
        says="scale is missing",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="divided",
        says="divided",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = images @ texts.T / logit_scale.exp()
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="rows_only",
        says="only the rows",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, right)
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="columns_only",
        says="only the columns",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits.T, right)
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="not_halved",
        says="take their mean",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right))
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="softmax_twice",
        says="one inside",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits.softmax(1), right) + F.cross_entropy(logits.T.softmax(1), right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="distance_of_pairs",
        says="without the wrong pairs",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    return ((images - texts) ** 2).sum(-1).mean()
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="yes_or_no",
        says="yes or no",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    return F.binary_cross_entropy_with_logits(logits, torch.eye(len(logits)))
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="normalised_in_place",
        says="in place",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    image_features /= image_features.norm(dim=-1, keepdim=True)
    images = image_features
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    # --- zero_shot_probabilities ---
    dict(
        exercise="zero_shot_probabilities",
        name="loud_descriptions",
        says="speaks louder",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(text_features.mean(dim=1), dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="mean_left_short",
        says="length 1 again",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(text_features, dim=-1).mean(dim=1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="never_normalised",
        says="never brought",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = text_features.mean(dim=1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="pictures_not_normalised",
        says="pictures' vectors",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = image_features
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="softmax_over_pictures",
        says="over the pictures",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=0)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="softmax_over_pictures_of_a_mean_as_it_is",
        says="over the pictures",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(text_features, dim=-1).mean(dim=1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=0)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="no_softmax",
        says="softmax is missing",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="sigmoid",
        says="sigmoid",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.sigmoid()
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="no_exp",
        says="logarithm",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    logits = logit_scale * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="no_limit",
        says="no limit",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    logits = logit_scale.exp() * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="first_description",
        says="first description",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(text_features[:, 0], dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="probabilities_averaged",
        says="Probabilities are averaged",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    found = []
    for p in range(text_features.shape[1]):
        classes = F.normalize(text_features[:, p], dim=-1)
        found.append((logit_scale.exp().clamp(max=100) * images @ classes.T).softmax(-1))
    return torch.stack(found).mean(0)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="mean_over_classes",
        says="shape|over the classes",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=0), dim=-1)
    logits = logit_scale.exp().clamp(max=100) * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="train_bpe",
        name="texts_glued_together",
        says="glued together",
        code="""
def train_bpe(texts, num_merges):
    counts = Counter(split_words("".join(texts)))
    words = {word: start_pieces(word) for word in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for word, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {word: merge_pair(pieces, best) for word, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="join_first_place_only",
        says="everywhere in every word",
        code="""
def join_once(pieces, best):
    for i in range(len(pieces) - 1):
        if (pieces[i], pieces[i + 1]) == best:
            return (*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :])
    return pieces

def train_bpe(texts, num_merges):
    counts = Counter(word for text in texts for word in split_words(text))
    words = {word: start_pieces(word) for word in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for word, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {word: join_once(pieces, best) for word, pieces in words.items()}
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="minus_zero_slice",
        says="exactly length - 2 pieces",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while known := [p for p in zip(pieces, pieces[1:]) if p in self.ranks]:
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[piece] for piece in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    over = len(numbers) + 2 - length
    if over >= 0:
        numbers = numbers[:-over]
    return ([self.start, *numbers, self.end] + [self.end] * length)[:length]
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="fills_one_too_few",
        says="yours has 8 numbers",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while known := [p for p in zip(pieces, pieces[1:]) if p in self.ranks]:
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[piece] for piece in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    kept = numbers[: length - 2]
    return [self.start, *kept] + [self.end] * (length - 2 - len(kept))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="class_level_cache",
        says="must belong to one tokenizer",
        code="""
class Tokenizer(NumberedPieces):
    cache = {}

    def encode(self, text, length=None):
        numbers = []
        for word in split_words(text):
            if word not in self.cache:
                pieces = start_pieces(word)
                while known := [p for p in zip(pieces, pieces[1:]) if p in self.ranks]:
                    pieces = merge_pair(pieces, min(known, key=self.ranks.get))
                self.cache[word] = [self.vocabulary[piece] for piece in pieces]
            numbers += self.cache[word]
        if length is None:
            return [self.start, *numbers, self.end]
        kept = numbers[: length - 2]
        return [self.start, *kept] + [self.end] * (length - 1 - len(kept))

    def __call__(self, texts, length):
        rows = [self.encode(text, length) for text in texts]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), length)
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="mutable_default",
        says="keeps something between calls",
        code="""
def encode(self, text, length=None, numbers=[]):
    for word in split_words(text):
        pieces = start_pieces(word)
        while known := [p for p in zip(pieces, pieces[1:]) if p in self.ranks]:
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[piece] for piece in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    kept = numbers[: length - 2]
    return [self.start, *kept] + [self.end] * (length - 1 - len(kept))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="fills_with_minus_one",
        says="Behind the end the row is filled",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while known := [p for p in zip(pieces, pieces[1:]) if p in self.ranks]:
            pieces = merge_pair(pieces, min(known, key=self.ranks.get))
        numbers += [self.vocabulary[piece] for piece in pieces]
    row = [self.start] + numbers + [self.end]
    if length is None:
        return row
    row = row[:length - 1] + [self.end] if len(row) > length else row
    return row + [-1] * (length - len(row))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="greedy_longest_piece_in_vocabulary",
        says="longest piece of the vocabulary is taken",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        symbols, pieces, i = pieces, [], 0
        while i < len(symbols):
            for j in range(len(symbols), i, -1):
                piece = "".join(symbols[i:j])
                if piece in self.vocabulary:
                    break
            pieces.append(piece)
            i = j
        numbers += [self.vocabulary[piece] for piece in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    kept = numbers[: length - 2]
    return [self.start, *kept] + [self.end] * (length - 1 - len(kept))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="lower_rank_by_pair_order",
        says="lowest rank everywhere in the word",
        code="""
def encode(self, text, length=None):
    numbers = []
    for word in split_words(text):
        pieces = start_pieces(word)
        while known := [p for p in zip(pieces, pieces[1:]) if p in self.ranks]:
            pieces = merge_pair(pieces, min(known, key=lambda p: p))
        numbers += [self.vocabulary[piece] for piece in pieces]
    if length is None:
        return [self.start, *numbers, self.end]
    kept = numbers[: length - 2]
    return [self.start, *kept] + [self.end] * (length - 1 - len(kept))
""",
    ),
    dict(
        exercise="quick_gelu",
        name="gate_detached",
        says="the gradient for x",
        code="""
def quick_gelu(x):
    with torch.no_grad():
        gate = torch.sigmoid(1.702 * x)
    return x * gate
""",
    ),
    dict(
        exercise="quick_gelu",
        name="no_grad",
        says="no gradient at all",
        code="""
@torch.no_grad()
def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)
""",
    ),
    dict(
        exercise="quick_gelu",
        name="exp_over_one_plus_exp",
        says="infinity / infinity",
        code="""
def quick_gelu(x):
    e = torch.exp(1.702 * x)
    return x * e / (1 + e)
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="squeezed",
        says="shape",
        code="""
def forward(self, tokens):
    batch, length = tokens.shape
    x = self.tokens(tokens) + self.positions[:length]
    mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden.gather(1, end[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze()
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="pooled_without_gradient",
        says="pooled, which alone is trained",
        code="""
def forward(self, tokens):
    batch, length = tokens.shape
    x = self.tokens(tokens) + self.positions[:length]
    mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    with torch.no_grad():
        pooled = hidden[torch.arange(batch), end]
    return hidden, pooled
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="mask_kept_from_first_call",
        says="made anew in each call",
        code="""
def forward(self, tokens):
    batch, length = tokens.shape
    x = self.tokens(tokens) + self.positions[:length]
    if not hasattr(self, "_mask"):
        self._mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask = self._mask
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(batch, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="mask_max_length",
        says="not max_length",
        code="""
def forward(self, tokens):
    batch, length = tokens.shape
    x = self.tokens(tokens) + self.positions[:length]
    mask = torch.ones(len(self.positions), len(self.positions), dtype=torch.bool).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(batch, device=x.device), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="no_grad",
        says="no gradient at all",
        code="""
@torch.no_grad()
def forward(self, tokens):
    batch, length = tokens.shape
    x = self.tokens(tokens) + self.positions[:length]
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[torch.arange(batch), end]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="end_of_the_first_row_for_all",
        says="at the place where the first one ends",
        code="""
def forward(self, tokens):
    batch, length = tokens.shape
    x = self.tokens(tokens) + self.positions[:length]
    mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.end_token).int().argmax(dim=1)
    return hidden, hidden[:, end[0]]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="end_token_hard_coded_last_vocab",
        says="another number looked for than self.end_token",
        code="""
def forward(self, tokens):
    batch, length = tokens.shape
    x = self.tokens(tokens) + self.positions[:length]
    mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    for layer in self.layers:
        x = layer(x, mask)
    hidden = self.norm(x)
    end = (tokens == self.tokens.num_embeddings - 1).int().argmax(dim=1)
    return hidden, hidden[torch.arange(batch, device=x.device), end]
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="squeezed",
        says="shape",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, :1]).squeeze()
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="pooled_cut_off",
        says="pooled, which alone is trained",
        code="""
def forward(self, images):
    patches = self.conv_in(images).flatten(2).transpose(1, 2)
    first = self.class_vector.expand(len(images), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positions
    x = self.norm_in(x)
    for layer in self.layers:
        x = layer(x)
    return x, self.norm_out(x[:, 0].detach())
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="scale_clamped_in_place",
        says="changes logit_scale in place",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logit_scale.data.clamp_(max=math.log(100))
    scale = logit_scale.exp()
    logits = scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="open_clip_limits",
        says="has a lower limit, too",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    scale = logit_scale.clamp(0, math.log(100)).exp()
    logits = scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="columns_unscaled",
        says="columns' table lacks the scale",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(texts @ images.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="logits_clamped",
        says="limit of 100 is on the logits",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    scale = logit_scale.exp()
    logits = (scale * images @ texts.T).clamp(max=100)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="naive_logsumexp",
        says="not finite",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return (logits.exp().sum(0).log() + logits.exp().sum(1).log() - 2 * logits.diag()).mean() / 2
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="python_number",
        says="plain number, no tensor",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    return ((F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2).item()
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="naive_softmax",
        says="infinity / infinity",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * images @ classes.T
    e = logits.exp()
    return e / e.sum(-1, keepdim=True)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="squeezed",
        says="should have shape",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    scale = logit_scale.exp().clamp(max=100)
    logits = (scale * images @ classes.T).squeeze()
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="exp_in_place",
        says="changes logit_scale in place",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    scale = logit_scale.exp_().clamp(max=100)
    logits = scale * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="limits_one",
        says="has a lower limit, too",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)
    scale = logit_scale.exp().clamp(1, 100)
    logits = scale * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="default_dim_normalize",
        says="takes dim=1 unless told",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features).mean(dim=1), dim=-1)
    scale = logit_scale.exp().clamp(max=100)
    logits = scale * images @ classes.T
    return logits.softmax(dim=-1)
""",
    ),
]

RIGHT = [
    # --- train_bpe ---
    dict(
        exercise="train_bpe",
        name="lists_and_loops",
        code="""
def train_bpe(texts, num_merges):
    frequency = {}
    for text in texts:
        for word in split_words(text):
            frequency[word] = frequency.get(word, 0) + 1
    corpus = [[list(start_pieces(word)), n] for word, n in frequency.items()]
    learnt = []
    for _ in range(num_merges):
        pairs = {}
        for pieces, n in corpus:
            for i in range(len(pieces) - 1):
                pair = (pieces[i], pieces[i + 1])
                pairs[pair] = pairs.get(pair, 0) + n
        if len(pairs) == 0:
            return learnt
        most = max(pairs.values())
        best = sorted(pair for pair in pairs if pairs[pair] == most)[0]
        learnt.append(best)
        for item in corpus:
            item[0] = list(merge_pair(item[0], best))
    return learnt
""",
    ),
    dict(
        exercise="train_bpe",
        name="every_occurrence_by_itself",
        code="""
def train_bpe(texts, num_merges):
    words = [start_pieces(w) for text in texts for w in split_words(text)]
    merges = []
    while len(merges) < num_merges:
        pairs = Counter(p for pieces in words for p in zip(pieces[:-1], pieces[1:]))
        if not pairs:
            break
        best = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[0][0]
        words = [merge_pair(pieces, best) for pieces in words]
        merges.append(best)
    return merges
""",
    ),
    dict(
        exercise="train_bpe",
        name="helper_and_own_joining",
        code="""
def count_pairs(words):
    pairs = Counter()
    for pieces, n in words:
        for a, b in zip(pieces, pieces[1:]):
            pairs[a, b] += n
    return pairs


def train_bpe(texts, num_merges, verbose=False):
    counts = Counter()
    for text in texts:
        counts.update(split_words(text))
    words = [(start_pieces(w), n) for w, n in counts.items()]
    merges = []
    pairs = count_pairs(words)
    while pairs and len(merges) < num_merges:
        best = min((-n, pair) for pair, n in pairs.items())[1]
        merges.append(list(best))
        words = [(merge_pair(pieces, best), n) for pieces, n in words]
        pairs = count_pairs(words)
    return merges
""",
    ),
    # --- Tokenizer.encode ---
    dict(
        exercise="Tokenizer.encode",
        name="merges_in_their_order",
        code="""
def encode(self, text, length=None):
    ids = [self.start]
    for word in split_words(text):
        pieces = start_pieces(word)
        for pair in self.merges:
            pieces = merge_pair(pieces, pair)
        ids.extend(self.vocabulary[piece] for piece in pieces)
    if length is not None:
        ids = ids[: length - 1]
    ids.append(self.end)
    while length is not None and len(ids) < length:
        ids.append(self.end)
    return ids
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="ranks_with_infinity",
        code="""
def encode(self, text, length=None):
    ids = []
    for word in split_words(text):
        pieces = list(start_pieces(word))
        while len(pieces) > 1:
            ranks = [self.ranks.get((a, b), float("inf")) for a, b in zip(pieces, pieces[1:])]
            i = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[i] == float("inf"):
                break
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        ids += [self.vocabulary[piece] for piece in pieces]
    if length is None:
        length = len(ids) + 2
    ids = [self.start] + ids[: length - 2] + [self.end]
    return ids + [self.end] * (length - len(ids))
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="helper_method",
        code="""
def pieces_of(self, word):
    pieces = start_pieces(word)
    known = set(zip(pieces, pieces[1:])) & set(self.ranks)
    while known:
        pieces = merge_pair(pieces, sorted(known, key=lambda p: self.ranks[p])[0])
        known = set(zip(pieces, pieces[1:])) & set(self.ranks)
    return pieces

def encode(self, text, length=None, padding=None):
    body = [self.vocabulary[p] for w in split_words(text) for p in self.pieces_of(w)]
    if length is None:
        return [self.start] + body + [self.end]
    row = [self.end] * length
    row[0] = self.start
    body = body[: length - 2]
    row[1 : 1 + len(body)] = body
    return row
""",
    ),
    # --- quick_gelu ---
    dict(
        exercise="quick_gelu",
        name="method",
        code="""
def quick_gelu(x):
    return (1.702 * x).sigmoid() * x
""",
    ),
    dict(
        exercise="quick_gelu",
        name="exponential",
        code="""
def quick_gelu(x):
    return x / (1 + torch.exp(-1.702 * x))
""",
    ),
    dict(
        exercise="quick_gelu",
        name="silu_rescaled",
        code="""
def quick_gelu(x):
    return F.silu(1.702 * x) / 1.702
""",
    ),
    # --- TextTransformer.forward ---
    dict(
        exercise="TextTransformer.forward",
        name="mask_by_comparison",
        code="""
def forward(self, tokens):
    batch, length = tokens.shape
    place = torch.arange(length, device=tokens.device)
    x = self.tokens(tokens) + self.positions[place]
    allowed = place[:, None] >= place[None, :]
    for i in range(len(self.layers)):
        x = self.layers[i](x, allowed)
    x = self.norm(x)
    first = torch.argmax((tokens == self.end_token).float(), dim=-1)
    pooled = torch.stack([x[row, first[row]] for row in range(batch)])
    return x, pooled
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="gathered",
        code="""
def forward(self, tokens):
    x = self.tokens.weight[tokens] + self.positions[None, : tokens.shape[1]]
    n = x.shape[1]
    mask = ~torch.triu(torch.ones(n, n, device=x.device), diagonal=1).bool()
    for layer in self.layers:
        x = layer(x, mask=mask)
    x = self.norm(x)
    is_end = tokens == self.end_token
    first = is_end & (is_end.cumsum(dim=1) == 1)
    return [x, x[first]]
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="mask_with_batch",
        code="""
def causal(length, device):
    return torch.tril(torch.full((length, length), True, device=device))[None, None]


def forward(self, tokens, return_pooled=True):
    h = self.tokens(tokens)
    h = h + self.positions[: h.shape[1]].unsqueeze(0)
    for layer in self.layers:
        h = layer(h, causal(h.shape[1], h.device))
    hidden = self.norm(h)
    places = [row.tolist().index(self.end_token) for row in tokens]
    return hidden, hidden[range(len(places)), places]
""",
    ),
    # --- ImageEncoder.forward ---
    dict(
        exercise="ImageEncoder.forward",
        name="einops",
        code="""
def forward(self, images):
    from einops import rearrange, repeat

    patches = rearrange(self.conv_in(images), "b c h w -> b (h w) c")
    first = repeat(self.class_vector, "c -> b 1 c", b=images.shape[0])
    x = self.norm_in(torch.cat((first, patches), 1) + self.positions[None])
    for layer in self.layers:
        x = layer(x, None)
    pooled = self.norm_out(x)[:, 0, :]
    return x, pooled
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="filled_in",
        code="""
def forward(self, images):
    h = self.conv_in(images)
    b, c, rows, columns = h.shape
    x = torch.zeros(b, rows * columns + 1, c, dtype=h.dtype, device=h.device)
    x[:, 0] = self.class_vector
    x[:, 1:] = h.permute(0, 2, 3, 1).reshape(b, rows * columns, c)
    x = self.norm_in(x + self.positions)
    for layer in self.layers:
        x = layer(x)
    return [x, self.norm_out(x[:, 0])]
""",
    ),
    dict(
        exercise="ImageEncoder.forward",
        name="functional",
        code="""
def forward(self, images):
    h = F.conv2d(images, self.conv_in.weight, stride=self.conv_in.stride)
    h = torch.stack([p.flatten(1).T for p in h])
    ones = torch.ones(len(h), 1, 1, device=h.device)
    h = torch.cat([ones * self.class_vector, h], dim=1).add(self.positions)
    h = nn.Sequential(self.norm_in, *self.layers)(h)
    return h, self.norm_out(h.select(1, 0))
""",
    ),
    # --- contrastive_loss ---
    dict(
        exercise="contrastive_loss",
        name="by_hand",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    i = image_features / image_features.norm(dim=1, keepdim=True)
    t = text_features / text_features.norm(dim=1, keepdim=True)
    logits = torch.minimum(logit_scale.exp(), torch.tensor(100.0)) * (i @ t.t())
    rows = -logits.log_softmax(dim=1).diagonal().mean()
    columns = -logits.log_softmax(dim=0).diagonal().mean()
    return 0.5 * rows + 0.5 * columns
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="loop",
        code="""
def contrastive_loss(image_features, text_features, logit_scale):
    scale = logit_scale.exp().clamp(max=100.0)
    similarity = scale * F.cosine_similarity(image_features[:, None], text_features[None], dim=-1)
    total = 0.0
    for i in range(len(similarity)):
        total = total + similarity[i].logsumexp(0) - similarity[i, i]
        total = total + similarity[:, i].logsumexp(0) - similarity[i, i]
    return total / (2 * len(similarity))
""",
    ),
    dict(
        exercise="contrastive_loss",
        name="einsum_in_double",
        code="""
def contrastive_loss(image_features, text_features, logit_scale, label_smoothing=0.0):
    a, b = (F.normalize(f.double(), dim=-1) for f in (image_features, text_features))
    logits = torch.einsum("id,jd->ij", a, b) * logit_scale.double().clamp(max=math.log(100)).exp()
    target = torch.arange(logits.shape[0])
    losses = [F.cross_entropy(x, target, label_smoothing=label_smoothing) for x in (logits, logits.T)]
    return torch.stack(losses).mean().to(image_features.dtype)
""",
    ),
    # --- zero_shot_probabilities ---
    dict(
        exercise="zero_shot_probabilities",
        name="loops",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    classes = []
    for descriptions in text_features:
        mean = sum(d / d.norm() for d in descriptions) / len(descriptions)
        classes.append(mean / mean.norm())
    scale = min(math.exp(logit_scale.item()), 100)
    rows = []
    for image in image_features:
        image = image / image.norm()
        rows.append(torch.softmax(torch.stack([scale * image @ c for c in classes]), dim=0))
    return torch.stack(rows)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="sum_in_place_of_mean",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    texts = F.normalize(text_features, dim=2).sum(1)
    cosine = F.cosine_similarity(image_features.unsqueeze(1), texts.unsqueeze(0), dim=-1)
    return F.softmax(cosine * logit_scale.exp().clamp(max=100), dim=1)
""",
    ),
    dict(
        exercise="zero_shot_probabilities",
        name="einsum_and_exponentials",
        code="""
def zero_shot_probabilities(image_features, text_features, logit_scale):
    unit = lambda x: x / x.pow(2).sum(-1, keepdim=True).sqrt()
    classes = unit(unit(text_features).mean(-2))
    logits = torch.einsum("bd,kd->bk", unit(image_features), classes)
    logits = logits * torch.clamp(torch.exp(logit_scale), max=MAX_SCALE)
    e = torch.exp(logits - logits.amax(dim=1, keepdim=True))
    return e / e.sum(dim=1, keepdim=True)
""",
    ),
    dict(
        exercise="Tokenizer.encode",
        name="recursive_with_instance_cache",
        code="""
def _merge(self, pieces):
    best, best_rank = None, len(self.ranks)
    for pair in zip(pieces, pieces[1:]):
        rank = self.ranks.get(pair, best_rank)
        if rank < best_rank:
            best, best_rank = pair, rank
    return pieces if best is None else self._merge(merge_pair(pieces, best))

def encode(self, text: str, length: int | None = None) -> list[int]:
    if not isinstance(text, str):
        raise ValueError("not a text")
    if not hasattr(self, "_known"):
        self._known = {}
    out = [self.start]
    for word in split_words(text):
        if word not in self._known:
            self._known[word] = [self.vocabulary[p] for p in self._merge(start_pieces(word))]
        out += self._known[word]
    if length is None:
        return out + [self.end]
    out = (out + [self.end] * length)[:length]
    out[-1] = self.end
    return out
""",
    ),
    dict(
        exercise="TextTransformer.forward",
        name="cached_buffer_mask_and_loop",
        code="""
def forward(self, tokens):
    L = tokens.shape[1]
    if not hasattr(self, "mask") or len(self.mask) < L:
        self.register_buffer("mask", torch.ones(len(self.positions), len(self.positions), dtype=torch.bool).tril().to(tokens.device), persistent=False)
    x = self.tokens(tokens) + self.positions[:L][None]
    for layer in self.layers:
        x = layer(x=x, mask=self.mask[:L, :L])
    x = self.norm(x)
    pooled = x.new_empty(len(tokens), x.shape[-1])
    for row in range(len(tokens)):
        for place in range(L):
            if int(tokens[row, place]) == self.end_token:
                pooled[row] = x[row, place]
                break
    return x, pooled
""",
    ),
    dict(
        exercise="quick_gelu",
        name="logsigmoid",
        code="""
def gate(z):
    return F.logsigmoid(z).exp()

def quick_gelu(x):
    return torch.mul(x, gate(torch.mul(x, 1.702)))
""",
    ),
]
