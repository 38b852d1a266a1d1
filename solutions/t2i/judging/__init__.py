"""Networks that look at a picture and say what it shows; `t2i.metrics` counts with them."""
