"""All that speaks Flower: messages, the engines that run a federation, deployment."""
