"""The moving average of weights that FSDP2 shards: accelerate starts it on GPUs only, the shards work on a CPU too."""

from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel

from .processes import average_sharded_weights


def test_the_average_of_sharded_weights_is_gathered_and_saved(tmp_path):
    assert average_sharded_weights(tmp_path) == [0, 0]
    assert CPGGMARModel.from_pretrained(tmp_path).config.encoder_width == 16
