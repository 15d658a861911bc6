"""The ClientApp that Flower calls; it imports nothing heavy, as it may run once per message."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.dispatch import perform

app = ClientApp()


@app.query()
def hello(message: Message, context: Context) -> Message:
    """Introduce this client."""
    return Message(perform("query", message.content, context), reply_to=message)


@app.train("adapter")
def tune(message: Message, context: Context) -> Message:
    """Do one round of tuning the adapter of all clients."""
    return Message(perform("adapter", message.content, context), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Do one round's training."""
    return Message(perform("train", message.content, context), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the global model."""
    return Message(perform("evaluate", message.content, context), reply_to=message)
