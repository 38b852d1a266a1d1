"""What `t2i.training` is made of: batches, optimisers, numbers, processes, a watcher."""
