"""How a participant is reached that connects by a stream: the pool, the streams, their tasks, and forwarding."""
