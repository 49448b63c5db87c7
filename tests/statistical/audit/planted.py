"""Models that know some patients by heart, for calibrations."""

import torch

from oathbound.audit.adapters.own import EventTarget
from oathbound.core.shape import EventTransformer as Shape
from oathbound.models.transformer import build, token_losses


def planted(tokenizer, patients, *, length, epochs, seed, rate):
    """A model of one layer that has read `patients` so many times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would not help so small a model
    shape = Shape(name="event-transformer", layers=1, width=64, heads=2, length=length, seed=seed)
    model = build(shape, tokenizer.size)
    records = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(tokenizer.encode(patient, length)) for patient in patients], batch_first=True
    )
    order = torch.Generator().manual_seed(seed)
    descent = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(records), generator=order).split(40):
            batch = records[rows]
            descent.zero_grad()
            (token_losses(model(batch), batch).sum() / (batch[:, 1:] != 0).sum()).backward()
            descent.step()
    torch.set_num_threads(threads)
    return EventTarget(model, tokenizer)
