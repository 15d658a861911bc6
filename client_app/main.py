"""The ClientApp that Flower calls; it imports nothing heavy, as it may run once per message."""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.dispatch import perform

app = ClientApp()


@app.query()
def hello(message: Message, context: Context) -> Message:
    """Introduce this client."""
    return _reply("query", message, context)


@app.train("adapter")
def tune(message: Message, context: Context) -> Message:
    """Do one round of tuning the adapter of all clients."""
    return _reply("adapter", message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Do one round's training."""
    return _reply("train", message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the global model."""
    return _reply("evaluate", message, context)


def _reply(kind: str, message: Message, context: Context) -> Message:
    until = message.metadata.created_at + message.metadata.ttl
    return Message(perform(kind, message.content, context, until), reply_to=message)
