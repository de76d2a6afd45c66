"""One story per verb, read top to bottom; arithmetic and drawing live in the layers below."""
