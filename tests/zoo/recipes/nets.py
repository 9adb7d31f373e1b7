"""Nets, trained and exported by torch."""

# torch is not there where mypy runs, so that nothing is known of the classes that ours are kinds of.
# mypy: disable-error-code=misc
from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.datasets import load_digits

from tests.zoo.recipes.data import SEED, Made, Numbers, customers, floats, generator, matrix_table, table_of, tumours


def trained(net: torch.nn.Module, given: tuple[Any, ...], target: Any, loss: Any, steps: int = 60) -> torch.nn.Module:
    """Train for a few steps on all rows."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(net(*given), target).backward()
        optimiser.step()
    return net.eval()


def from_torch(
    net: torch.nn.Module, given: tuple[Any, ...], axes: Any, *, inputs: list[str], outputs: list[str]
) -> Any:
    """Export by torch's own exporter; `axes` names the free axes of each input."""
    program = torch.onnx.export(
        net,
        given,
        dynamo=True,
        opset_version=18,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=axes,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


class Standardised(torch.nn.Module):
    """A layer that brings each feature to mean 0 and deviation 1."""

    def __init__(self, features: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(features.mean(axis=0)))
        self.register_buffer("scale", torch.from_numpy(1 / features.std(axis=0)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Value by value."""
        return (features - self.mean) * self.scale


def tumour_net(width: int = 32) -> tuple[torch.nn.Module, Numbers]:
    """A net of three layers for tumours, trained."""
    torch.manual_seed(SEED)
    data = tumours()
    net = torch.nn.Sequential(
        Standardised(data.features),
        torch.nn.Linear(30, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 1),
        torch.nn.Sigmoid(),
    )
    target = torch.from_numpy(data.target.astype(np.float32))[:, None]
    return trained(net, (torch.from_numpy(data.features),), target, torch.nn.functional.binary_cross_entropy, 15), data


BATCH = torch.export.Dim("rows")


def tumour_graph(net: torch.nn.Module, data: Numbers, dtype: Any = np.float32) -> Any:
    """The net for tumours, exported."""
    given = (torch.from_numpy(data.features[:4].astype(dtype)),)
    return from_torch(net, given, ({0: BATCH},), inputs=["X"], outputs=["p"])


def mlp() -> Made:
    """Whether a tumour is benign, by a net of three layers."""
    net, data = tumour_net()
    return Made(tumour_graph(net, data), data.table, "tumours")


def float16() -> Made:
    """The same in float16: input, weights and output."""
    net, data = tumour_net()
    return Made(tumour_graph(net.half(), data, np.float16), data.table, "tumours")


def external() -> Made:
    """The same, wider, with its weights in a file beside it."""
    net, data = tumour_net(width=128)
    return Made(tumour_graph(net, data), data.table, "tumours", outside=True)


class DigitNet(torch.nn.Module):
    """Bytes in, logits of ten digits out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.second = torch.nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.last = torch.nn.Linear(16 * 4 * 4, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scale the bytes here: what is fed is the image as it was stored."""
        scaled = image.float() / 255
        seen = torch.relu(self.second(torch.relu(self.first(scaled))))
        return self.last(seen.flatten(1))


def convolution() -> Made:
    """Which digit an image shows; images are lists of 64 bytes."""
    torch.manual_seed(SEED)
    data = load_digits()
    images = (data.images[:400] * 15.9).astype(np.uint8)[:, None]
    net = trained(
        DigitNet(), (torch.from_numpy(images),), torch.from_numpy(data.target[:400]), torch.nn.functional.cross_entropy
    )
    exported = from_torch(net, (torch.from_numpy(images[:4]),), ({0: BATCH},), inputs=["image"], outputs=["logits"])
    lists = pa.array(list(images[:300].reshape(300, 64)), pa.list_(pa.uint8()))
    return Made(exported, table_of({"image": lists}))


WORDS = (
    *("the", "a", "this", "my", "flight", "seat", "meal", "crew", "was", "and", "very", "not", "but", "on", "time"),
    *("late", "lost", "rude", "cold", "broken", "cramped", "dirty", "awful", "slow"),
    *("friendly", "warm", "clean", "quick", "comfortable", "great", "calm", "tasty", "again", "never"),
)


class Attention(torch.nn.Module):
    """A layer of a transformer: attention of two heads among the tokens of a row, then a net for each token."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.ask = torch.nn.Linear(width, 3 * width)
        self.mix = torch.nn.Linear(width, width)
        self.think = torch.nn.Sequential(
            torch.nn.Linear(width, 2 * width), torch.nn.GELU(), torch.nn.Linear(2 * width, width)
        )
        self.before = torch.nn.LayerNorm(width)
        self.between = torch.nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`mask` is 1 at tokens and 0 at padding."""
        rows, length, width = tokens.shape
        asked = self.ask(self.before(tokens)).reshape(rows, length, 3, self.heads, width // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e9)
        seen = (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).reshape(rows, length, width)
        tokens = tokens + self.mix(seen)
        return tokens + self.think(self.between(tokens))


class ReviewNet(torch.nn.Module):
    """Token ids and a mask in; logits of three moods and the mean of the last layer out."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(len(WORDS) + 1, width)
        self.places = torch.nn.Embedding(64, width)
        self.layers = torch.nn.ModuleList([Attention(width), Attention(width)])
        self.last = torch.nn.Linear(width, 3)

    def both(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding of each row; neither depends on how far it was padded."""
        seen = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            seen = layer(seen, mask)
        weight = mask.float()[:, :, None]
        pooled = (seen * weight).sum(dim=1) / weight.sum(dim=1)
        return self.last(pooled), pooled

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `both`."""
        return self.both(ids, mask)


def reviews(rows: int) -> tuple[list[list[int]], np.ndarray]:
    """Made-up reviews as token ids, 3 to 24 words, and the mood of each: 0 bad, 1 mixed, 2 good."""
    rng = generator()
    bad, good = range(16, 25), range(25, 33)
    texts, moods = [], []
    for _ in range(rows):
        text = rng.integers(1, len(WORDS) + 1, rng.integers(3, 25)).tolist()
        praise = sum(word in good for word in text) - sum(word in bad for word in text)
        texts.append(text)
        moods.append(1 + (praise > 1) - (praise < -1))
    return texts, np.array(moods)


def padded(texts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, padded by 0 to the longest."""
    ids = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    return torch.from_numpy(ids), torch.from_numpy((ids != 0).astype(np.int64))


def transformer() -> Made:
    """Moods of reviews by a transformer of two layers; rows and length are free."""
    torch.manual_seed(SEED)
    texts, moods = reviews(300)

    def loss(found: tuple[torch.Tensor, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(found[0], target)

    net = trained(ReviewNet(), padded(texts), torch.from_numpy(moods), loss, steps=30)
    free = {0: BATCH, 1: torch.export.Dim("length", min=1, max=64)}
    exported = from_torch(
        net,
        padded(texts[:4]),
        (free, free),
        inputs=["input_ids", "attention_mask"],
        outputs=["logits", "pooled"],
    )
    return Made(exported, table_of({"tokens": pa.array(texts, pa.list_(pa.int64()))}))


class Towers(torch.nn.Module):
    """A customer and an offer in; their affinity and their distance out."""

    def __init__(self) -> None:
        super().__init__()
        self.customer = torch.nn.Linear(3, 8)
        self.offer = torch.nn.Linear(2, 8)

    def forward(self, customer: torch.Tensor, offer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Affinity has one axis, distance has two."""
        left, right = torch.tanh(self.customer(customer)), torch.tanh(self.offer(offer))
        return (left * right).sum(dim=1), (left - right).norm(dim=1, keepdim=True)


def two_towers() -> Made:
    """Two inputs and two outputs."""
    torch.manual_seed(SEED)
    table, _ = customers()
    rng = generator()
    price = np.round(rng.uniform(5, 80, table.num_rows), 2).astype(np.float32)
    discount = rng.choice([0, 5, 10, 25], table.num_rows).astype(np.float32)
    table = table.append_column("price", pa.array(price)).append_column("discount", pa.array(discount))
    given = (
        torch.from_numpy(floats(table, "age", "spend", "calls")[:4]),
        torch.from_numpy(floats(table, "price", "discount")[:4]),
    )
    net = Towers().eval()
    with torch.no_grad():
        net.customer.weight.mul_(0.02)
        net.offer.weight.mul_(0.02)
    exported = from_torch(
        net, given, ({0: BATCH}, {0: BATCH}), inputs=["customer", "offer"], outputs=["affinity", "distance"]
    )
    return Made(exported, table)


class Quarters(torch.nn.Module):
    """Three series of four quarters from six numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 12)

    def forward(self, history: torch.Tensor) -> torch.Tensor:
        """A cube (rows, 3, 4)."""
        return self.layer(history).reshape(-1, 3, 4)


def cube() -> Made:
    """Forecasts of three series for four quarters: an output of three axes."""
    torch.manual_seed(SEED)
    names = ["m1", "m2", "m3", "m4", "m5", "m6"]
    history = np.round(generator().gamma(5, 20, (250, 6)), 1).astype(np.float32)
    exported = from_torch(
        Quarters().eval(), (torch.from_numpy(history[:4]),), ({0: BATCH},), inputs=["history"], outputs=["forecast"]
    )
    lists = pa.array(list(history), pa.list_(pa.float32(), 6))
    made = matrix_table(history, names)
    return Made(exported, made.append_column("history", lists).select(["id", "history"]))
