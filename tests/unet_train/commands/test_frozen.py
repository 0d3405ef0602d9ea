"""An encoder that is to be left as it is must have been trained."""

from unet_train.cli import main

FIT = [
    "fit",
    "--data.tile_size=64",
    "--task.freeze_encoder=true",
    "--trainer.max_steps=1",
]


def test_a_frozen_encoder_of_random_weights_is_refused(data_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    where = [f"--run_dir={run_dir}", "--data.name=discs", f"--data.data_dir={data_dir}"]
    for encoder in ([], ["--model.encoder=efficientnet_lite0"]):
        assert main([*FIT, *where, *encoder]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "as it was drawn at random" in error
        assert "Set encoder_weights to imagenet" in error
        assert not run_dir.exists()
