"""Where artifacts lie: object stores, manifests, and atomic, verified artifacts on top of them."""
