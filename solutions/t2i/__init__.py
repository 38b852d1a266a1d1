"""t2i: the parts of a text-to-image model, written to be read in the order of the lessons.

Lesson                      modules
 1  noise schedules         schedules
 2  the denoiser, a UNet    unet_blocks, unet
 3  DDPM                    diffusion
 4  faster samplers         sampler_parts, samplers, dpm_solver, dpm_sde
 5  guidance                guidance
 6  cross-attention         attention, transformer, text_unet
 7  CLIP                    byte_words, bpe, clip_layers, clip
 8  the autoencoder         vae_layers, vae, latents
 9  UNet to DiT             patches, dit, joint
10  text to image           flow, prompt_encoder, text_to_image

    every lesson            lesson, data, training, metrics, show
    small machines          folded_unet, practice
    a world that is known   mixture

And folders, from the ground up: on one floor engine (what training is made of), files and classroom
(what runs behind a notebook), then world (the captioned scenes), judging (what does a picture
show?), pretrained (models in the layouts of transformers and diffusers), runs (recipes, and the
runs behind the course's figures) and speed, drawing (each lesson's pictures and tables), apps. None
leans on a higher one.

Importing the package imports nothing else, so a lesson only loads what it uses.
"""

__version__ = "0.1.0"
