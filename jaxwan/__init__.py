"""jaxwan: a vectorized JAX Monte-Carlo simulator of distributed training over wide-area networks."""

__version__ = "0.1.0"
