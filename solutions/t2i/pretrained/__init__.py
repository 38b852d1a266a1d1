"""Models as folders in the layouts of transformers and diffusers: released ones, and our own."""
