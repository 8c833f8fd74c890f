"""The rows of what makes images."""

from __future__ import annotations

from tests.row import Row

LABELS = 12  # more than the ids that the tests draw
_GAN = {"width": 8, "depth": 2, "latent": 8, "size": 16}
_VAE = {"widths": (4, 6), "latent": 3, "size": 12}
_DVAE = {"codes": 16, "code_width": 6, "channels_width": 8, "blocks": 1, "size": (16, 24)}
_DALLE = {**_DVAE, "words": 20, "text_length": 5, "width": 16, "depth": 3, "heads": 2, "head_width": 6}
_OPENAI = {"codes": 512, "channels_width": 64}
_DALLE_PYTORCH = {"words": 60, "text_length": 12, "width": 64, "heads": 4, "head_width": 16, "codes": 50, "size": 32}

GENERATIVE = (
    Row("gan_dcgan", 3_576_704, _GAN, {"dcgan_generator": {}, "dcgan_discriminator": {}}),
    Row("gan_wgan_gp", 3_576_704, _GAN),
    Row("gan_conditional", 4_396_904, {**_GAN, "labels": LABELS}),
    Row("gan_projection", 4_396_904, {**_GAN, "labels": LABELS}),
    Row("vae_conv", 48_785, _VAE, {"vae_conv": {}}),
    Row("vae_conditional", 69_393, {**_VAE, "labels": LABELS}),
    Row("vae_vq", 1_882_179, {**_VAE, "codes": 16, "blocks": 1}),
    Row(
        "dalle_base",
        252_734_720,
        {**_DALLE, "size": 16},
        {
            "dalle_dvae_encoder": _OPENAI,
            "dalle_dvae_decoder": {**_OPENAI, "code_width": 32},
            "dalle_transformer": {**_DALLE_PYTORCH, "depth": 2},
            "dalle_transformer_axial_shift": {**_DALLE_PYTORCH, "depth": 3},
        },
    ),
    Row("dalle_small", 8_996_672, {**_DALLE, "size": 16}),
    Row("dalle_tiny", 1_416_880, {**_DALLE, "size": 16, "attention": ("full", "axial_row", "axial_col")}),
)
