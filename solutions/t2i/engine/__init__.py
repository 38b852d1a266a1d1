"""What `t2i.training` is made of: batches, optimisers, numbers, processes. And who looks on."""
